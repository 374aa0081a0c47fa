#include "base/status.h"

#include <cerrno>

namespace faultless {

namespace {

Code CodeOf(int error) {
  switch (error) {
    case 0:
      return Code::kOk;
    case ENOENT:
    case ENOTDIR:  // a component of the path is not a directory: nothing can be there
      return Code::kNotFound;
    case EEXIST:
      return Code::kExists;
    case EACCES:
    case EPERM:
    case EROFS:
    case ETXTBSY:
      return Code::kAccess;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:  // the filesystem's largest file, or RLIMIT_FSIZE: no room either way
      return Code::kNoSpace;
    case ENOSYS:
    case ENODEV:  // mmap of something that cannot be mapped
    case EOPNOTSUPP:
#if ENOTSUP != EOPNOTSUPP
    case ENOTSUP:
#endif
      return Code::kUnsupported;
    default:
      return Code::kIo;
  }
}

}  // namespace

Status Status::FromErrno(int error, const char* syscall) { return WithErrno(CodeOf(error), error, syscall); }

}  // namespace faultless
