// Purpose: the handle of an open map, and what its jobs have in common: for the files that export what
// ts/mapped-file.ts calls. Thread safety: as each member says. Ownership: the handle and its jobs share the map;
// whoever lets go last closes it.
#pragma once

#include <node_api.h>

#include <memory>
#include <string>
#include <utility>

#include "binding/convert.h"
#include "binding/job.h"
#include "map/mapped_file.h"

namespace faultless::binding {

/** An open map in one environment: shared by its handle and its jobs. */
struct OpenMap {
  std::shared_ptr<map::MappedFile> file;
  std::shared_ptr<Lane> lane;
  std::string path;           // empty: opened by descriptor
  bool close_issued = false;  // JavaScript thread

  const char* path_or_null() const { return path.empty() ? nullptr : path.c_str(); }
};
using Map = std::shared_ptr<OpenMap>;

constexpr napi_type_tag kMapTag = {0x2f0c1d5a7be94e13, 0x9a66d1c84f7730b5};

/** False with a pending TypeError where the value is no handle of a map. */
inline bool ToMap(napi_env env, napi_value value, Map* result) { return ToShared(env, value, kMapTag, result); }

class MapJob : public Job {
 public:
  explicit MapJob(Map map, Mode mode = Mode::kShared, uint32_t operations = 1)
      : Job(map->lane, mode, operations), map_(std::move(map)) {}

 protected:
  napi_value Failure(napi_env env, const Status& status) override { return ToJs(env, status); }
  napi_value ToJs(napi_env env, const Status& status) { return StatusToJs(env, status, map_->path_or_null()); }
  map::MappedFile& file() { return *map_->file; }

 private:
  const Map map_;
};

}  // namespace faultless::binding
