#include "os/os.h"

namespace faultless::os {

bool MountOfPath(const char*, Mount*) { return false; }  // POSIX has no mount table

}  // namespace faultless::os
