// Purpose: a store's file in memory, read with the engine's own eyes, for tests that damage it. Thread safety: one
// thread. Ownership: has a copy of the image that it was made of.
#pragma once

#include <bit>
#include <cstring>

#include "store/context.h"
#include "store_children.h"

namespace store_test {

class FileView {
 public:
  explicit FileView(const Image& image) : lines_((image.size() + 7) / 8), words_(image.size()) {
    std::memcpy(lines_.data(), image.data(), image.size() * 8);
    faultless::format::Superblock blocks[2];
    std::memcpy(blocks, image.data(), sizeof blocks);
    if (!faultless::format::ChooseSuperblock(blocks[0], blocks[1], &context_.superblock).ok()) ::abort();
    context_.base = reinterpret_cast<std::byte*>(lines_.data());
    context_.shard_bits = static_cast<uint32_t>(std::countr_zero(context_.superblock.shard_count));
    context_.slot_mask = context_.superblock.slots_per_shard - 1;
  }
  FileView(const FileView&) = delete;
  const faultless::store::Context& context() const { return context_; }
  Image image() const {
    Image image(words_);
    std::memcpy(image.data(), lines_.data(), words_ * 8);
    return image;
  }

 private:
  struct alignas(64) Line {
    uint64_t words[8];
  };
  std::vector<Line> lines_;
  const size_t words_;
  faultless::store::Context context_;
};

}  // namespace store_test
