// What Open and Destroy answer: files that are none of ours, damaged, short, read-only, shared, gone.
#include <algorithm>

#include "store_children.h"

namespace {

using namespace store_test;
using harness::Child;

void WriteFile(const std::string& path, const std::string& content) {
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || ::write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size())) ::abort();
  ::close(fd);
}

std::string ReadFile(const std::string& path) {
  std::string content(1 << 20, '\0');
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return "none";
  const ssize_t got = ::read(fd, content.data(), content.size());
  ::close(fd);
  content.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return content;
}

TEST(StoreOpen, LeavesForeignFilesAlone) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a");
  const std::string contents[] = {"",
                                  "x",
                                  std::string(8191, 'x'),
                                  std::string(8192, '\0'),
                                  std::string(500'000, 'x'),
                                  "SQLite format 3" + std::string(100'000, '\0')};
  for (const std::string& content : contents) {
    WriteFile(path, content);
    std::shared_ptr<Store> store;
    for (const bool read_only : {false, true}) {
      EXPECT_CODE(OpenWith(
                      path, [&](OpenOptions* options) { options->read_only = read_only; }, &store),
                  Code::kFormat)
          << content.size();
    }
    EXPECT_CODE(OpenWith(
                    path, [&](OpenOptions* options) { options->exclusive = true; }, &store),
                Code::kExists);
    EXPECT_CODE(Store::Destroy(path), Code::kFormat) << content.size();
    EXPECT_TRUE(ReadFile(path) == content) << content.size();
    EXPECT_TRUE(store == nullptr);
  }
  std::shared_ptr<Store> store;
  const Status of_directory = OpenWith(directory.path(), nullptr, &store);
  EXPECT_TRUE(of_directory.code() == Code::kFormat || of_directory.code() == Code::kAccess ||
              of_directory.code() == Code::kInvalidArgValue)
      << static_cast<int>(of_directory.code());
  EXPECT_FALSE(Store::Destroy(directory.path()).ok());
  EXPECT_CODE(OpenWith(directory.File("no/such/directory"), nullptr, &store), Code::kNotFound);
  EXPECT_CODE(OpenWith(
                  directory.File("none"), [](OpenOptions* options) { options->create = false; }, &store),
              Code::kNotFound);
  EXPECT_CODE(OpenWith(
                  directory.File("none"), [](OpenOptions* options) { options->read_only = true; }, &store),
              Code::kNotFound);
  EXPECT_CODE(Store::Destroy(directory.File("none")), Code::kNotFound);
  EXPECT_NE(::access(directory.File("none").c_str(), F_OK), 0);
}

TEST(StoreOpen, TellsWhatIsMissingOfATruncatedFile) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto store = Open(path);
  for (int i = 0; i < 3000; i++) ASSERT_OK(Set(*store, std::to_string(i), MakeValue(std::to_string(i), 1, 500)));
  ASSERT_OK(store->Close());
  const Image image = ReadImage(path);
  int number = 0;
  for (const uint64_t bytes : {uint64_t{0}, uint64_t{4096}, uint64_t{8192}, uint64_t{100'000}, uint64_t{8 * 65'536},
                               image.size() * 8 / 2, image.size() * 8 - 65'536, image.size() * 8 - 8}) {
    const std::string copy = directory.File("cut" + std::to_string(number++));
    WriteImage(copy, Image(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(bytes / 8)));
    const Status status = OpenWith(copy, nullptr, &store);
    // Never an empty store in the place of one that lost something, never a crash.
    EXPECT_TRUE(status.code() == Code::kFormat || status.code() == Code::kCorrupt || status.code() == Code::kIo ||
                status.ok())
        << bytes << static_cast<int>(status.code());
    EXPECT_FALSE(status.ok() && bytes < 100'000);
    EXPECT_TRUE(status.code() != Code::kFormat || bytes < 8192);
    if (!status.ok()) continue;
    MapSink all;
    ScanAll(*store, &all);
    EXPECT_EQ(all.entries.size(), store->Size()) << bytes;
    for (const auto& [key, value] : all.entries) EXPECT_EQ(NumberOf(key, value), 1) << bytes << key;
    ASSERT_OK(Set(*store, "new", "value"));
    ASSERT_OK(store->Close());
  }
}

TEST(StoreOpen, GivesExactlyThePermissionsAskedFor) {
  const harness::TemporaryDirectory directory;
  const mode_t umask_before = ::umask(077);
  for (const uint32_t permissions : {0600u, 0644u, 0660u, 0666u, 0640u}) {
    const std::string path = directory.File(std::to_string(permissions));
    std::shared_ptr<Store> store;
    ASSERT_OK(OpenWith(
        path, [&](OpenOptions* options) { options->permissions = permissions; }, &store));
    struct stat status {};
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, permissions);
    ASSERT_OK(store->Close());
    // They are the creator's to give: a later open changes none.
    ASSERT_OK(OpenWith(
        path, [&](OpenOptions* options) { options->permissions = 0666; }, &store));
    ASSERT_EQ(::stat(path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 07777, permissions);
    ASSERT_OK(store->Close());
  }
  ::umask(umask_before);
}

CHILD_PROCESS(Unprivileged) {
  LiveAtMost(30);
  if (::setgid(65534) != 0 || ::setuid(65534) != 0) return;
  std::shared_ptr<Store> store;
  EXPECT_CODE(OpenWith(arguments[0], nullptr, &store), Code::kAccess);
  EXPECT_CODE(OpenWith(
                  arguments[0], [](OpenOptions* options) { options->read_only = true; }, &store),
              Code::kAccess);
  EXPECT_CODE(OpenWith(arguments[0] + ".new", nullptr, &store), Code::kAccess);
  EXPECT_CODE(Store::Destroy(arguments[0]), Code::kAccess);
}

TEST(StoreOpen, IsRefusedWithoutPermission) {
  if (::geteuid() != 0) return harness::Skip("only root can become somebody else");
  const harness::TemporaryDirectory directory;
  ASSERT_EQ(::chmod(directory.path().c_str(), 0755), 0);
  auto store = Open(directory.File("a.store"));
  EXPECT_EQ(Child::Start("Unprivileged", {directory.File("a.store")}).Wait(), 0);
  ASSERT_OK(store->Close());
}

CHILD_PROCESS(ExclusiveOpener) {
  LiveAtMost(60);
  const Board board(arguments[1]);
  for (int i = 0; i < 20; i++) {
    std::shared_ptr<Store> store;
    const Status status = OpenWith(
        arguments[0] + std::to_string(i), [](OpenOptions* options) { options->exclusive = true; }, &store);
    if (status.ok()) {
      board[static_cast<size_t>(i)]++;
    } else {
      EXPECT_CODE(status, Code::kExists);
    }
  }
}

TEST(StoreOpen, ExclusiveIsForOneAlone) {
  const harness::TemporaryDirectory directory;
  const Board board(directory.File("board"));
  std::vector<Child> children;
  for (int i = 0; i < 4; i++)
    children.push_back(Child::Start("ExclusiveOpener", {directory.File("store"), directory.File("board")}));
  for (Child& child : children) EXPECT_EQ(child.Wait(), 0);
  for (size_t i = 0; i < 20; i++) EXPECT_EQ(board[i].load(), 1) << i;
}

CHILD_PROCESS(ReadOnlyReader) {
  LiveAtMost(60);
  const Board board(arguments[1]);
  std::shared_ptr<Store> store;
  ASSERT_OK(OpenWith(
      arguments[0], [](OpenOptions* options) { options->read_only = true; }, &store));
  EXPECT_TRUE(store->read_only());
  bool existed;
  faultless::store::ClearProgress shard;
  EXPECT_CODE(Set(*store, "a", "b"), Code::kReadOnly);
  EXPECT_CODE(Delete(*store, "a", &existed), Code::kReadOnly);
  EXPECT_CODE(store->Clear(&shard), Code::kReadOnly);
  board[0] = 1;
  // Whatever the other process has acknowledged is seen here.
  uint64_t seen = 0;
  while (seen < 500) {
    const uint64_t acknowledged = board[1].load();
    std::string value;
    const Status status = Get(*store, "counter", &value);
    if (status.code() == Code::kAbsent) {
      EXPECT_EQ(acknowledged, 0);
      continue;
    }
    ASSERT_OK(status);
    const uint64_t number = NumberOf("counter", value);
    ASSERT_GE(number, std::max<uint64_t>(acknowledged, 1));
    ASSERT_GE(number, seen);
    seen = number;
  }
  MapSink all;
  ScanAll(*store, &all);
  EXPECT_EQ(all.entries.size(), store->Size());
  EXPECT_OK(store->Flush());
  ASSERT_OK(store->Close());
}

TEST(StoreOpen, ReadOnlySeesWhatOthersWrite) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  const Board board(directory.File("board"));
  auto store = Open(path);
  Child child = Child::Start("ReadOnlyReader", {path, directory.File("board")});
  for (int i = 0; board[0].load() == 0 && i < 20'000; i++) ::usleep(500);
  for (uint64_t number = 1; number <= 500; number++) {
    ASSERT_OK(Set(*store, "counter", MakeValue("counter", number, number * 37 % 100'000)));
    board[1] = number;
  }
  EXPECT_EQ(child.Wait(), 0);
  // In one process, too: both see the same.
  std::shared_ptr<Store> reader;
  ASSERT_OK(OpenWith(
      path, [](OpenOptions* options) { options->read_only = true; }, &reader));
  EXPECT_FALSE(store->read_only());
  ASSERT_OK(Set(*store, "late", "x"));
  std::string value;
  EXPECT_OK(Get(*reader, "late", &value));
  EXPECT_CODE(Set(*reader, "late", "y"), Code::kReadOnly);
  ASSERT_OK(store->Close());
  EXPECT_OK(Get(*reader, "late", &value));
  ASSERT_OK(reader->Close());
}

TEST(StoreOpen, TwoInOneProcessShareAndOutliveEachOther) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  ASSERT_EQ(::symlink("a.store", directory.File("link").c_str()), 0);
  for (const bool first_goes_first : {true, false}) {
    auto first = Open(path);
    auto second = Open(directory.File("link"));
    ASSERT_OK(Set(*first, "a", "1"));
    std::string value;
    ASSERT_OK(Get(*second, "a", &value));
    EXPECT_EQ(value, "1");
    auto& leaver = first_goes_first ? first : second;
    auto& stayer = first_goes_first ? second : first;
    ASSERT_OK(leaver->Close());
    leaver.reset();
    ASSERT_OK(Set(*stayer, "a", "2"));
    ASSERT_OK(Get(*stayer, "a", &value));
    EXPECT_EQ(value, "2");
    auto third = Open(path);
    ASSERT_OK(Get(*third, "a", &value));
    EXPECT_EQ(value, "2");
    ASSERT_OK(stayer->Close());
    ASSERT_OK(Set(*third, "a", "3"));
    ASSERT_OK(third->Close());
  }
}

TEST(StoreOpen, DestroyLeavesThoseWhoHaveItOpenAlone) {
  const harness::TemporaryDirectory directory;
  const std::string path = directory.File("a.store");
  auto old = Open(path);
  ASSERT_OK(Set(*old, "a", "old"));
  ASSERT_OK(Store::Destroy(path));
  EXPECT_CODE(Store::Destroy(path), Code::kNotFound);
  auto fresh = Open(path);
  EXPECT_EQ(fresh->Size(), 0);
  ASSERT_OK(Set(*fresh, "a", "new"));
  std::string value;
  for (int i = 0; i < 2000; i++) ASSERT_OK(Set(*old, std::to_string(i), std::string(1000, 'o')));
  ASSERT_OK(Get(*old, "a", &value));
  EXPECT_EQ(value, "old");
  ASSERT_OK(Get(*fresh, "a", &value));
  EXPECT_EQ(value, "new");
  EXPECT_EQ(fresh->Size(), 1);
  ASSERT_OK(old->Close());
  ASSERT_OK(fresh->Close());
  fresh = Open(path);
  ASSERT_OK(Get(*fresh, "a", &value));
  EXPECT_EQ(value, "new");
  ASSERT_OK(fresh->Close());
  ASSERT_OK(Store::Destroy(path));
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

}  // namespace
