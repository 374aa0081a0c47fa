// Purpose: the parts of CreateAside and PublishFile that need nothing but POSIX: a file built under a temporary name,
// then linked to its own. Thread safety: any thread. Ownership: the descriptor becomes the caller's.
#pragma once

#include <string>

#include "base/status.h"

namespace faultless::os {

/** "/a/b" → "/a", "b" → ".", "/b" → "/". Allocates. */
std::string DirectoryOf(const char* path);

/** Creates `.NAME.XXXXXXXXXXXXXXXX.faultless` beside `path`, exclusively, with exactly `permissions`. Allocates. */
Status CreateNamedAside(const char* path, uint32_t permissions, int* fd, std::string* aside);

/** link + unlink: atomic, never replaces. A crash between the two leaves the temporary name beside the real one. */
Status PublishByLink(const std::string& aside, const char* path);

/** Zeros from `offset` to `end`, written in pieces: the way to reserve space where there is no better one. */
Status WriteZeros(int fd, uint64_t offset, uint64_t end);

}  // namespace faultless::os
