// Purpose: what the native tests of exchanges share. Thread safety: as the harness.
#pragma once

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "ipc/exchange.h"
#include "ipc_fixture.h"

namespace ipc_test {

using faultless::ipc::Exchange;
using faultless::ipc::ExchangeOptions;

/** Queues of every exchange here. */
enum Queue : uint32_t { kFree, kWork, kDone, kLost };

inline std::shared_ptr<Exchange> OpenExchange(const std::string& path, uint32_t elements = 40) {
  ExchangeOptions options;
  options.file.path = path;
  options.elements = elements;
  options.element_bytes = 16;
  options.queues = {"free", "work", "done", "lost"};
  options.reclaim_to = "lost";
  std::shared_ptr<Exchange> exchange;
  EXPECT_OK(Exchange::Open(options, &exchange));
  return exchange;
}

inline std::vector<uint32_t> PullAll(Exchange& exchange, uint32_t queue) {
  std::vector<uint32_t> ids(exchange.geometry().elements + 1);
  size_t pulled = 0;
  EXPECT_OK(exchange.Pull(queue, ids, &pulled));
  ids.resize(pulled);
  return ids;
}

inline std::vector<uint32_t> Pull(Exchange& exchange, uint32_t queue, size_t count) {
  std::vector<uint32_t> ids(count);
  size_t pulled = 0;
  EXPECT_OK(exchange.Pull(queue, ids, &pulled));
  ids.resize(pulled);
  return ids;
}

inline std::vector<uint32_t> Range(uint32_t from, uint32_t to) {
  std::vector<uint32_t> ids;
  for (uint32_t id = from; id < to; id++) ids.push_back(id);
  return ids;
}

/** Where each element is, when all openers but this one are dead or closed: each must be somewhere, once. */
inline std::vector<std::vector<uint32_t>> TakeStock(Exchange& exchange) {
  std::vector<std::vector<uint32_t>> stock;
  std::set<uint32_t> all;
  size_t count = 0;
  for (uint32_t queue = 0; queue < exchange.geometry().queues; queue++) {
    stock.push_back(PullAll(exchange, queue));
    all.insert(stock.back().begin(), stock.back().end());
    count += stock.back().size();
  }
  EXPECT_EQ(count, exchange.geometry().elements);
  EXPECT_EQ(all.size(), exchange.geometry().elements);
  return stock;
}

}  // namespace ipc_test
