// The harness itself: that expectations fail when they should, in this process and in children.
#include "harness.h"

#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <cstdint>
#include <filesystem>

namespace {

using harness::Child;

void LeavesAtTheFirstFailure(bool* reached) {
  ASSERT_EQ(1, 2) << "on purpose";
  *reached = true;
}

CHILD_PROCESS(Fails) { EXPECT_TRUE(false) << "on purpose"; }
CHILD_PROCESS(Answers) { EXPECT_EQ(arguments.at(0), "forty two"); }

TEST(Harness, ComparesIntegersByValue) {
  EXPECT_EQ(size_t{3}, 3);
  EXPECT_NE(UINT32_MAX, -1);
  EXPECT_LT(-1, size_t{0});
  EXPECT_LE(2, 2u);
  EXPECT_GT(size_t{0}, -1);
  EXPECT_GE(2u, 2);
  EXPECT_TRUE(harness::Compare<harness::Equal, false, false>("", UINT32_MAX, -1).has_value());
  EXPECT_TRUE(harness::Compare<harness::Less, true, true>("", 2, 1).has_value());
  EXPECT_FALSE(harness::Compare<harness::Less, true, true>("", 2, 2).has_value());
}

TEST(Harness, ChecksCodes) {
  EXPECT_OK(faultless::Status());
  EXPECT_CODE(faultless::Code::kIo, faultless::Code::kIo);
  EXPECT_TRUE(harness::CheckCode("", faultless::Code::kIo, faultless::Code::kOk).has_value());
}

TEST(Harness, FailedExpectationsFailTheProcess) {
  EXPECT_EQ(Child::Start("Fails").Wait(), 1);
  EXPECT_EQ(Child::Start("Answers", {"forty two"}).Wait(), 0);
  EXPECT_EQ(Child::Start("Answers", {"forty three"}).Wait(), 1);
  EXPECT_EQ(Child::Start("NoSuchProcess").Wait(), 1);
  EXPECT_EQ(Child::Fork([] { EXPECT_EQ(1, 2) << "on purpose"; }).Wait(), 1);
  EXPECT_EQ(Child::Fork([] {
              bool reached = false;
              LeavesAtTheFirstFailure(&reached);
              if (reached) ::_exit(7);
            }).Wait(),
            1);
  EXPECT_EQ(Child::Fork([] {}).Wait(), 0);
}

TEST(Harness, ReportsSignals) {
  Child child = Child::Fork([] { ::pause(); });
  child.Signal(SIGKILL);
  EXPECT_EQ(child.Wait(), -SIGKILL);
}

TEST(Harness, RemovesTemporaryDirectories) {
  std::string path;
  {
    harness::TemporaryDirectory directory;
    path = directory.path();
    EXPECT_TRUE(std::filesystem::create_directories(directory.File("a/b")));
  }
  EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace
