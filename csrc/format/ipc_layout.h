// Purpose: where everything is in the files of segments, exchanges and logs, and the words of them. docs/format.md is
// this file in prose; one commit changes both. All three lie in RAM (shm:NAME); nothing of them survives a boot.
//
//   segment    the memory itself, padded to 4 KiB | SegmentHeader | openers | waiters
//   exchange   ExchangeHeader | openers | queues | owners | rings | elements
//   log        LogHeader | openers | ring of lines
//
// Thread safety: the structs overlay mapped memory that many processes share. Every field that changes after creation
// is atomic; docs/concurrency.md says who may write which word when. Invariants: a number read from these structs is
// checked before it is used as an index.
#pragma once

#include <cstdint>

#include "format/layout.h"

namespace faultless::format {

constexpr uint32_t kIpcVersion = 1;
constexpr uint64_t kIpcPageBytes = 4096;  // of the layout, whatever the machine's page is

// ───────────────────────────────────────────────────────────── openers: who lives

constexpr uint32_t kIpcOpeners = 512;

/** One opening of the file. Whoever has it holds the lock on byte kOpenerBytes + slot for as long as it lives. */
struct IpcOpener {
  HalfWord generation;  // moves on with each use of the slot; 21 bits
  HalfWord in_use;      // 1: from open to an orderly close; who died leaves 1
  HalfWord doorbell;    // moved on when the opener is to look at what it waits for
  HalfWord process_id;  // for people
};
static_assert(sizeof(IpcOpener) == 16);
constexpr uint64_t kIpcOpenersBytes = kIpcOpeners * sizeof(IpcOpener);

// ───────────────────────────────────────────────────────────── segment

constexpr uint64_t kSegmentMagic = 0x314D474553544C46;  // the bytes FLTSEGM1 from the low one on
constexpr uint32_t kSegmentWaiters = 16'384;
constexpr uint32_t kSegmentFirstWaiters = 128;  // whose space is reserved at creation

/** Behind the memory, in its last kSegmentTrailerBytes: the buffer begins with the file. */
struct SegmentHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t reserved_before;
  uint64_t size_bytes;        // of the memory; at least 1
  Word next_ticket;           // of waits, from 1; each is used once
  HalfWord waiters_end;       // waiters from here on have never been used
  HalfWord waiters_reserved;  // waiters whose space is reserved
  uint8_t reserved[kIpcPageBytes - 40];
};
static_assert(sizeof(SegmentHeader) == kIpcPageBytes);

/** One pending wait. */
struct SegmentWaiter {
  HalfWord owner;  // lock word of the opener that waits; 0: free
  HalfWord reserved;
  Word place;  // of the word waited on, bytes from the buffer's begin
  Word state;  // ticket << 2 | kWaiting…; 0: nothing yet
  Word reserved_end;
};
static_assert(sizeof(SegmentWaiter) == 32);
constexpr uint64_t kWaiterWaiting = 1;
constexpr uint64_t kWaiterNotified = 2;
constexpr uint64_t kWaiterStates = 3;

constexpr uint64_t kSegmentTrailerBytes =
    kIpcPageBytes + kIpcOpenersBytes + uint64_t{kSegmentWaiters} * sizeof(SegmentWaiter);
constexpr uint64_t SegmentBufferBytes(uint64_t size_bytes) {
  return (size_bytes + kIpcPageBytes - 1) / kIpcPageBytes * kIpcPageBytes;
}

// ───────────────────────────────────────────────────────────── exchange

constexpr uint64_t kExchangeMagic = 0x3148435845544C46;  // the bytes FLTEXCH1 from the low one on
constexpr uint32_t kExchangeMaxElements = 1u << 24;
constexpr uint32_t kExchangeMaxElementBytes = 1u << 30;
constexpr uint32_t kExchangeMaxQueues = 256;
constexpr uint32_t kQueueNameBytes = 128;

/** Never changes after creation. */
struct ExchangeHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t elements;
  uint32_t element_bytes;
  uint32_t queues;
  uint32_t reclaim_queue;  // where the elements of dead openers go
  uint8_t reserved[kIpcPageBytes - 28];
};
static_assert(sizeof(ExchangeHeader) == kIpcPageBytes);

/** A queue's ring has a place for every element, so that no queue is ever full. Positions count up for good. */
struct alignas(64) ExchangeQueue {
  char name[kQueueNameBytes];  // UTF-8, ended by NUL; never changes
  HalfWord lock;               // of all below but the next two, and of the owners that move by it
  HalfWord event;              // moved on when something was pushed and somebody slept
  HalfWord sleepers;           // 1: somebody may sleep on `event`
  HalfWord reserved;
  Word head;     // position of the oldest element
  Word tail;     // behind the youngest one
  Word push_to;  // other than tail: a push of [tail, push_to) is to be finished
  Word pull_to;  // other than head: a pull of [head, pull_to) is to be undone
  uint8_t reserved_end[16];
};
static_assert(sizeof(ExchangeQueue) == 192);

/** An element's owner is an opener's word, or says in which queue it is. */
constexpr uint32_t kInQueueMark = (1u << kLockSlotBits) - 1;  // no opener has that slot
constexpr uint32_t InQueue(uint32_t queue) { return queue << kLockSlotBits | kInQueueMark; }
static_assert(kIpcOpeners < kInQueueMark);

constexpr uint64_t kElementAlignBytes = 8;

/** Where the parts of an exchange lie. */
struct ExchangeGeometry {
  uint32_t elements;
  uint32_t element_bytes;
  uint32_t queues;

  constexpr uint64_t stride_bytes() const {
    return (uint64_t{element_bytes} + kElementAlignBytes - 1) / kElementAlignBytes * kElementAlignBytes;
  }
  constexpr uint64_t queues_offset() const { return kIpcPageBytes + kIpcOpenersBytes; }
  constexpr uint64_t owners_offset() const { return queues_offset() + uint64_t{queues} * sizeof(ExchangeQueue); }
  constexpr uint64_t rings_offset() const { return owners_offset() + uint64_t{elements} * sizeof(HalfWord); }
  constexpr uint64_t elements_offset() const {
    const uint64_t end = rings_offset() + uint64_t{queues} * elements * sizeof(HalfWord);
    return (end + kIpcPageBytes - 1) / kIpcPageBytes * kIpcPageBytes;
  }
  constexpr uint64_t elements_bytes() const { return uint64_t{elements} * stride_bytes(); }
  constexpr uint64_t file_bytes() const {
    return (elements_offset() + elements_bytes() + kIpcPageBytes - 1) / kIpcPageBytes * kIpcPageBytes;
  }
};

// ───────────────────────────────────────────────────────────── log

constexpr uint64_t kLogMagic = 0x3152474F4C544C46;  // the bytes FLTLOGR1 from the low one on
constexpr uint64_t kLogLeastBytes = 4096;
constexpr uint64_t kLogMostBytes = uint64_t{1} << 40;
constexpr uint64_t kLogReaderByte = kGateByte + 4;  // exclusive: whoever reads the lines

struct LogHeader {
  uint64_t magic;
  uint32_t version;
  uint32_t reserved_before;
  uint64_t capacity_bytes;  // of the ring, a multiple of 4,096; with the two before it never changes
  uint8_t reserved[40];
  // Written by writers, under `lock`.
  HalfWord lock;
  HalfWord lines_event;  // moved on when a line was written and the reader slept
  HalfWord reader_sleeps;
  HalfWord reserved_writer;
  Word tail;     // behind the youngest line; positions count up for good
  Word dropped;  // lines that were refused and not written since
  uint8_t reserved_writers[32];
  // Written by the reader, whoever holds the lock on kLogReaderByte.
  Word head;            // the oldest line that is not done with
  HalfWord room_event;  // moved on when lines were done with and a writer slept
  HalfWord writer_sleeps;
  HalfWord reader_event;  // moved on when a reader has stopped and another one slept
  HalfWord reserved_reader;
  uint8_t reserved_end[kIpcPageBytes - 152];
};
static_assert(sizeof(LogHeader) == kIpcPageBytes);

/** Before each line, at a multiple of 8; the line's bytes follow, then up to the next multiple of 8 anything. */
struct LogRecord {
  uint64_t length;  // of the line, bytes
  uint64_t time_ns;
  uint32_t process_id;
  uint32_t thread;
};
static_assert(sizeof(LogRecord) == 24);

constexpr uint64_t LogRecordBytes(uint64_t line_bytes) { return sizeof(LogRecord) + (line_bytes + 7) / 8 * 8; }
constexpr uint64_t kLogOffset = kIpcPageBytes + kIpcOpenersBytes;

}  // namespace faultless::format
