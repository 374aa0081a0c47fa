// Purpose: what a JavaScript handle to an exchange is; shared by the files that work on one.
// Thread safety: JavaScript thread. Ownership: `exchange` is nullptr once it is closed.
#pragma once

#include <memory>
#include <string>

#include "binding/convert.h"
#include "ipc/exchange.h"

namespace faultless::binding {

constexpr napi_type_tag kExchangeTag = {0x31b7d0529ac84f0e, 0xa4de6c0b15f37720};

struct OpenExchange {
  std::shared_ptr<ipc::Exchange> exchange;
  std::string path;
};

/** Throws ERR_CLOSED for one that is closed. */
bool ToExchange(napi_env env, napi_value value, std::shared_ptr<OpenExchange>* handle);

}  // namespace faultless::binding
