// The mount table, /proc/self/mountinfo: one line per mount, "ID PARENT MAJOR:MINOR ROOT MOUNT-POINT OPTIONS … - TYPE
// …".
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include "os/os.h"

namespace faultless::os {
namespace {

/** Spaces and the like stand as three octal digits behind a backslash. */
std::string Unescape(const char* text) {
  std::string plain;
  for (const char* at = text; *at != 0; at++) {
    if (at[0] == '\\' && at[1] >= '0' && at[1] <= '3' && at[2] != 0 && at[3] != 0) {
      plain.push_back(static_cast<char>((at[1] - '0') * 64 + (at[2] - '0') * 8 + (at[3] - '0')));
      at += 3;
    } else {
      plain.push_back(*at);
    }
  }
  return plain;
}

bool LiesUnder(const std::string& path, const std::string& mount_point) {
  if (mount_point == "/") return true;
  if (path.compare(0, mount_point.size(), mount_point) != 0) return false;
  return path.size() == mount_point.size() || path[mount_point.size()] == '/';
}

FilesystemKind KindOfType(const char* type) {
  if (std::strcmp(type, "tmpfs") == 0 || std::strcmp(type, "ramfs") == 0) return FilesystemKind::kRam;
  for (const char* network : {"nfs", "nfs4", "cifs", "smb3", "9p", "ceph"}) {
    if (std::strcmp(type, network) == 0) return FilesystemKind::kNetwork;
  }
  return FilesystemKind::kDisk;
}

}  // namespace

bool MountOfPath(const char* path, Mount* mount) {
  std::string absolute = path;
  if (path[0] != '/') {
    char directory[4096];
    if (getcwd(directory, sizeof directory) == nullptr) return false;
    absolute = std::string(directory) + "/" + path;
  }
  FILE* const table = std::fopen("/proc/self/mountinfo", "re");
  if (table == nullptr) return false;
  size_t longest = 0;
  bool found = false;
  char* line = nullptr;
  size_t capacity = 0;
  while (getline(&line, &capacity, table) > 0) {
    unsigned device_major;
    unsigned device_minor;
    char point[4096];
    char type[64];
    const char* const rest = std::strstr(line, " - ");
    if (rest == nullptr || std::sscanf(line, "%*d %*d %u:%u %*s %4095s", &device_major, &device_minor, point) != 3 ||
        std::sscanf(rest, " - %63s", type) != 1) {
      continue;
    }
    const std::string mount_point = Unescape(point);
    // A later mount on the same point hides the earlier one.
    if (mount_point.size() < longest || !LiesUnder(absolute, mount_point)) continue;
    longest = mount_point.size();
    *mount = {makedev(device_major, device_minor), KindOfType(type)};
    found = true;
  }
  std::free(line);
  std::fclose(table);
  return found;
}

}  // namespace faultless::os
