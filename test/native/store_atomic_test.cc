// Writes that depend on what their key holds: compareAndSet and increment, also of large values and by many threads.
#include <cmath>
#include <cstring>
#include <thread>

#include "store_ledger.h"

namespace {

using namespace store_test;

/** nullptr: absent. */
bool Swap(Store& store, const std::string& key, const std::string* expected, const std::string* value) {
  const Bytes expected_bytes = expected != nullptr ? AsBytes(*expected) : Bytes();
  const Bytes value_bytes = value != nullptr ? AsBytes(*value) : Bytes();
  bool done = false;
  EXPECT_OK(Patiently([&] {
    return store.CompareAndSet(AsBytes(key), expected != nullptr ? &expected_bytes : nullptr,
                               value != nullptr ? &value_bytes : nullptr, {}, &done);
  }));
  return done;
}

std::string Number(double number) {
  std::string bytes(faultless::store::kNumberBytes, '\0');
  bytes[0] = static_cast<char>(faultless::store::kNumberMark);
  std::memcpy(bytes.data() + 1, &number, sizeof number);
  return bytes;
}

TEST(StoreAtomic, ComparesAbsenceAndBytes) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("compared.store");
  const auto store = Open(path);
  const std::string empty;
  const std::string one = "one";
  const std::string other = "two";
  EXPECT_FALSE(Swap(*store, "key", &one, &other));
  EXPECT_TRUE(Swap(*store, "key", nullptr, nullptr));
  EXPECT_TRUE(Swap(*store, "key", nullptr, &one));
  EXPECT_FALSE(Swap(*store, "key", nullptr, &other));
  EXPECT_FALSE(Swap(*store, "key", &other, &one));
  EXPECT_FALSE(Swap(*store, "key", &empty, &one));
  EXPECT_FALSE(Swap(*store, "key", nullptr, nullptr));
  EXPECT_TRUE(Swap(*store, "key", &one, &empty));
  EXPECT_TRUE(Swap(*store, "key", &empty, &other));
  EXPECT_FALSE(Swap(*store, "key", &one, nullptr));
  EXPECT_TRUE(Swap(*store, "key", &other, nullptr));
  std::string value;
  EXPECT_CODE(Get(*store, "key", &value), Code::kAbsent);
  EXPECT_OK(store->Close());
  EXPECT_EQ(Ledger(ReadImage(path)).Check(), "");
}

TEST(StoreAtomic, ComparesLargeValuesToTheLastByte) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("large.store");
  const auto store = Open(path);
  for (const uint64_t size : {65'535, 65'536, 65'537, 131'072, 1'000'000}) {
    const std::string key = std::to_string(size);
    const std::string value = MakeValue(key, 1, size);
    ASSERT_OK(Set(*store, key, value));
    for (const uint64_t place : {uint64_t{0}, size / 2, size - 1}) {
      std::string differs = value;
      differs[place]++;
      EXPECT_FALSE(Swap(*store, key, &differs, &key)) << size << place;
    }
    const std::string longer = value + "x";
    EXPECT_FALSE(Swap(*store, key, &longer, &key)) << size;
    const std::string next = MakeValue(key, 2, size + 1);
    EXPECT_TRUE(Swap(*store, key, &value, &next)) << size;
    EXPECT_TRUE(Swap(*store, key, &next, nullptr)) << size;
  }
  EXPECT_OK(store->Close());
  EXPECT_EQ(Ledger(ReadImage(path)).Check(), "");
}

TEST(StoreAtomic, IncrementsNumbersAndNothingElse) {
  const harness::TemporaryDirectory directory;
  const auto store = Open(directory.File("numbers.store"));
  const std::string key = "key";
  constexpr double kMost = 9'007'199'254'740'992;
  double sum = 0;
  const auto increment = [&](double by) {
    return Patiently([&] { return store->Increment(AsBytes(key), by, {}, &sum); });
  };
  EXPECT_OK(increment(0.5));
  EXPECT_OK(increment(-3));
  EXPECT_EQ(sum, -2.5);
  ASSERT_OK(Set(*store, key, Number(kMost - 1)));
  EXPECT_OK(increment(1));
  EXPECT_EQ(sum, kMost);
  EXPECT_CODE(increment(2), Code::kOutOfRange);
  EXPECT_OK(increment(-2 * kMost));
  EXPECT_EQ(sum, -kMost);
  EXPECT_CODE(increment(-2), Code::kOutOfRange);
  std::string value;
  EXPECT_OK(Get(*store, key, &value));
  EXPECT_EQ(value, Number(-kMost));  // unchanged
  ASSERT_OK(Set(*store, key, Number(INFINITY)));
  EXPECT_CODE(increment(1), Code::kOutOfRange);
  for (const std::string& wrong : {Number(NAN), std::string(), std::string("1"), std::string(9, '\0'), Number(1) + "x",
                                   MakeValue("key", 1, 200'000)}) {
    ASSERT_OK(Set(*store, key, wrong));
    EXPECT_CODE(increment(1), Code::kNotANumber) << wrong.size();
    EXPECT_OK(Get(*store, key, &value));
    EXPECT_TRUE(value == wrong);
  }
  EXPECT_OK(store->Close());
}

TEST(StoreAtomic, LosesNoCountOfManyThreads) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("threads.store");
  const auto store = Open(path);
  constexpr int kThreads = 4;
  constexpr int kRounds = kSanitized ? 200 : 2000;
  const std::string large_key = "large";
  ASSERT_OK(Set(*store, large_key, MakeValue(large_key, 1, 70'000)));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; t++) {
    threads.emplace_back([&] {
      const std::string key = "counter";
      for (int i = 0; i < kRounds; i++) {
        double sum;
        EXPECT_OK(Patiently([&] { return store->Increment(AsBytes(key), 1, {}, &sum); }));
        if (i % 20 != 0) continue;
        // A counter of its own kind: a large value whose number is moved on by compareAndSet.
        while (true) {
          std::string value;
          EXPECT_OK(Get(*store, large_key, &value));
          const std::string next = MakeValue(large_key, NumberOf(large_key, value) + 1, 70'000);
          if (Swap(*store, large_key, &value, &next)) break;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string value;
  EXPECT_OK(Get(*store, "counter", &value));
  EXPECT_EQ(value, Number(kThreads * kRounds));
  EXPECT_OK(Get(*store, large_key, &value));
  EXPECT_EQ(NumberOf(large_key, value), 1 + kThreads * kRounds / 20);
  EXPECT_OK(store->Close());
  EXPECT_EQ(Ledger(ReadImage(path)).Check(), "");
}

}  // namespace
