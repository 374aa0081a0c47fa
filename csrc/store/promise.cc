#include "store/promise.h"

#include "base/hash.h"

namespace faultless::store {
namespace {

uint64_t CheckOf(const Context& context, uint32_t shard_index, const QueuePlace& place) {
  const uint64_t words[4] = {place.tail_sequence, place.sequence, place.position, shard_index};
  return HashBytes(words, sizeof words, context.superblock.hash_seed);
}

bool ReadOne(const Context& context, uint32_t shard_index, const format::Promise& promise, QueuePlace* place) {
  *place = {promise.tail_sequence.load(std::memory_order_acquire), promise.sequence.load(std::memory_order_acquire),
            promise.position.load(std::memory_order_acquire)};
  return place->position != 0 && promise.check.load(std::memory_order_acquire) == CheckOf(context, shard_index, *place);
}

/** Which of the two is the youngest whole one; -1: neither is. */
int YoungestOf(const Context& context, uint32_t shard_index, QueuePlace* place) {
  const format::ShardControl& shard = context.shard(shard_index);
  QueuePlace places[2];
  const bool whole[2] = {ReadOne(context, shard_index, shard.promises[0], &places[0]),
                         ReadOne(context, shard_index, shard.promises[1], &places[1])};
  if (!whole[0] && !whole[1]) return -1;
  const int youngest = !whole[0] || (whole[1] && places[0].IsBefore(places[1])) ? 1 : 0;
  *place = places[youngest];
  return youngest;
}

}  // namespace

QueuePlace ReadPromise(const Context& context, uint32_t shard_index) {
  QueuePlace place;
  return YoungestOf(context, shard_index, &place) < 0 ? QueuePlace() : place;
}

void StorePromise(const Context& context, uint32_t shard_index, const QueuePlace& place) {
  QueuePlace now;
  const int youngest = YoungestOf(context, shard_index, &now);
  if (youngest >= 0 && now.position == place.position && now.sequence == place.sequence &&
      now.tail_sequence == place.tail_sequence) {
    return;
  }
  format::Promise& promise = context.shard(shard_index).promises[youngest == 0 ? 1 : 0];
  promise.tail_sequence.store(place.tail_sequence, std::memory_order_release);
  promise.sequence.store(place.sequence, std::memory_order_release);
  promise.position.store(place.position, std::memory_order_release);
  promise.check.store(CheckOf(context, shard_index, place), std::memory_order_release);
}

QueuePlace EndOfQueue(const Context& context, uint32_t shard_index) {
  const format::ShardControl& shard = context.shard(shard_index);
  return {shard.tail_sequence.load(std::memory_order_relaxed), shard.head_sequence.load(std::memory_order_relaxed),
          shard.head.load(std::memory_order_acquire)};
}

}  // namespace faultless::store
