// Purpose: the file that has the name of a temporary store (docs/format.md, "The door of a temporary store"): who has
// the store open, and by which of their descriptors the store's own file, which has no name, can be had.
#pragma once

#include <cstddef>
#include <cstdint>

#include "format/layout.h"

namespace faultless::format {

constexpr uint64_t kDoorMagic = 0x3130'524F'4F44'4C46;  // "FLDOOR01", little-endian
constexpr uint32_t kDoorSlots = kOpenerSlots;

/** Of the opener that holds the lock on byte kOpenerBytes + slot of the door. */
struct DoorSlot {
  uint32_t process_id;
  uint32_t descriptor;
};

/** Plain bytes, read and written by calls, by the holder of the lock on the door's kGateByte. */
struct Door {
  uint64_t magic;
  uint64_t device;  // of the store's file
  uint64_t inode;
  uint64_t reserved[5];
  DoorSlot slots[kDoorSlots];
};
static_assert(offsetof(Door, slots) == 64);
static_assert(sizeof(Door) == 64 + 8 * kDoorSlots);

}  // namespace faultless::format
