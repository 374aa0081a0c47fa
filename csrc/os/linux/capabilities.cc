#include "os/linux/capabilities.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

namespace faultless::os {

namespace {

/** The first user namespace is the one that maps every user to itself. */
bool InInitialUserNamespace() {
  std::FILE* map = std::fopen("/proc/self/uid_map", "re");
  if (map == nullptr) return true;  // a kernel without user namespaces, or no /proc: the common case then
  unsigned long long inside = 1;
  unsigned long long outside = 1;
  unsigned long long count = 0;
  const int fields = std::fscanf(map, "%llu %llu %llu", &inside, &outside, &count);
  std::fclose(map);
  return fields == 3 && inside == 0 && outside == 0 && count == 0xFFFFFFFF;
}

}  // namespace

bool HasCapability(Capability capability) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (syscall(SYS_capget, &header, data) != 0) return false;
  const auto bit = static_cast<unsigned>(capability);
  if ((data[bit / 32].effective >> (bit % 32) & 1) == 0) return false;
  return InInitialUserNamespace();
}

}  // namespace faultless::os
