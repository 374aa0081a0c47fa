#include "binding/scan_column.h"

#include <cstring>
#include <utility>

#include "binding/convert.h"

namespace faultless::binding {

void ScanColumn::Begin(bool text) {
  text_ = text;
  arena_.Clear();
  bytes_.clear();
  pieces_.clear();
}

bool ScanColumn::AppendLong(store::Bytes bytes) {
  Piece piece{0, bytes.size(), IsAscii(bytes.data(), bytes.size()),
              MallocBytes(static_cast<uint8_t*>(std::malloc(bytes.size())))};
  if (piece.own == nullptr) return false;
  std::memcpy(piece.own.get(), bytes.data(), bytes.size());
  pieces_.push_back(std::move(piece));
  return true;
}

bool ScanColumn::Append(store::Bytes bytes, ValuePlace* place) {
  if (!text_) return arena_.Append(bytes, place);
  if (bytes.size() > UINT32_MAX) return false;
  size_t offset = 0;
  if (bytes.size() > kMaxSharedBytes) {
    if (!AppendLong(bytes)) return false;
  } else {
    if (pieces_.empty() || pieces_.back().own != nullptr || pieces_.back().size + bytes.size() > kPieceBytes) {
      pieces_.push_back(Piece{bytes_.size(), 0, true, nullptr});
    }
    Piece& piece = pieces_.back();
    offset = piece.size;
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    piece.size += bytes.size();
    piece.ascii = piece.ascii && IsAscii(bytes.data(), bytes.size());
  }
  *place = ValuePlace{static_cast<uint32_t>(pieces_.size() - 1), static_cast<uint32_t>(offset),
                      static_cast<uint32_t>(bytes.size())};
  return true;
}

napi_value ScanColumn::ToJs(napi_env env) {
  if (!text_) return arena_.ToJs(env);
  napi_value array = nullptr;
  if (napi_create_array_with_length(env, pieces_.size(), &array) != napi_ok) return nullptr;
  for (uint32_t i = 0; i < pieces_.size(); i++) {
    const Piece& piece = pieces_[i];
    const uint8_t* const bytes = piece.own != nullptr ? piece.own.get() : bytes_.data() + piece.offset;
    napi_value element = nullptr;
    napi_status status = napi_generic_failure;
    if (piece.ascii) {
      status = napi_create_string_latin1(env, reinterpret_cast<const char*>(bytes), piece.size, &element);
    }
    // A text that is longer than a string may be fails where its value is decoded, as that of a get does.
    if (status != napi_ok) status = napi_create_buffer_copy(env, piece.size, bytes, nullptr, &element);
    if (status != napi_ok || napi_set_element(env, array, i, element) != napi_ok) return nullptr;
  }
  pieces_.clear();
  return array;
}

void ScanColumn::Release() {
  arena_.Clear();
  bytes_ = std::vector<uint8_t>();
  pieces_ = std::vector<Piece>();
}

}  // namespace faultless::binding
