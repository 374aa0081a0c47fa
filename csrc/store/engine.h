// Purpose: one open file of a store in this process: how it is created, opened, recovered and closed.
// Thread safety: Open and Close by one thread at a time per file (open_engines.h); context() by any thread in between.
// Ownership: owns the storage; everything else borrows the context.
#pragma once

#include <memory>
#include <vector>

#include "base/status.h"
#include "store/context.h"
#include "store/store.h"

namespace faultless::store {

class TemporaryDoor;

class Engine {
 public:
  /** May wait. Takes `fd` over in any case; the file is that of a store (or kFormat). */
  static Status Open(int fd, const OpenOptions& options, std::unique_ptr<Engine>* engine);
  /**
   * May wait. What Open does once the file is mapped: `storage` is whatever holds the store's bytes, block.max_bytes of
   * addresses long, `block` the superblock that was found in it. In itself it shares nothing (open_engines.h).
   */
  static Status OpenOn(std::unique_ptr<Storage> storage, const FileIdentity& identity, const format::Superblock& block,
                       const OpenOptions& options, std::unique_ptr<Engine>* engine);
  /** May wait. Builds an empty store aside and publishes it: kExists where somebody was faster. */
  static Status Create(const OpenOptions& options);
  /** May wait. Makes an empty store of an empty file. */
  static Status BuildEmpty(int fd, const OpenOptions& options);
  /** The first bytes of a new, empty store, random in its ids; zeros follow up to *units. */
  static Status ComposeEmpty(const KeptOptions& kept, std::vector<uint64_t>* head, uint64_t* units);
  /** kFormat where the file was created with others than those given. */
  static Status CheckKept(const format::Superblock& block, const KeptOptions& kept);
  /** Reads the superblocks of an open file: kFormat where it is none of ours. */
  static Status ReadSuperblock(int fd, format::Superblock* block);

  /** Releases everything; without Close like a kill. */
  ~Engine();

  /** May wait. The last one writes checkpoint and clean mark; of a temporary store the last one's file is gone. */
  Status Close();
  /** The store is temporary: Close() leaves by this. */
  void KeepDoor(std::unique_ptr<TemporaryDoor> door);
  /** May wait. Pins what has grown since, where the store is pinned. */
  void ExtendPin();
  /** May wait. Pins the store from now on: kMemlock where the system refuses. */
  Status Pin();

  Context& context() { return context_; }

 private:
  Engine() = default;
  Status Begin(const OpenOptions& options);
  Status TakeGate();
  Status RecoverStore(const OpenOptions& options);
  /** For readers: recovers, or salvages, a private copy. Releases the gate. */
  Status OpenPrivately(const OpenOptions& options);
  /** Notes in the control header that it is whole, in this boot, in this file. */
  void StampControl();
  /** `settle`: give back what the slot's dead users left; not before a recovery, which forgets it all. */
  Status TakeOpenerSlot(bool settle);
  Status SettleDead(uint32_t slot);
  /** Whether a lock of the file is held by this word: an earlier user of its slot left it behind, who had our
   * generation. */
  bool IsLockWord(uint32_t word) const;
  /** Takes the superblock as it is now; kFormat where it is another store's. */
  Status RereadSuperblock();
  /** kIo where a page of the control region is a substitute. */
  Status CheckControl() const;
  Status WriteSuperblock(format::FileState state);
  /** Whether the superblock was written to this very file, and not to what it is a copy of. */
  bool IsFileOf(const format::Superblock& block) const;
  bool MemorySurvived(const format::Superblock& block) const;

  Status CloseWriting();

  std::unique_ptr<Storage> storage_;
  std::unique_ptr<TemporaryDoor> door_;
  Context context_;
  FileIdentity identity_{};
};

}  // namespace faultless::store
