// Tokens and certificates from files, good, bad and replaced.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "server/identity/authorizer.h"
#include "server/identity/reloader.h"
#include "server/identity/tls_files.h"
#include "tests/server/certificates.h"

namespace pregate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// A folder with the files of one test.
class IdentityTest : public ::testing::Test {
 protected:
  IdentityTest() {
    std::string pattern = ::testing::TempDir() + "identity_XXXXXX";
    folder_ = mkdtemp(pattern.data());
  }
  ~IdentityTest() override { std::filesystem::remove_all(folder_); }

  std::string Path(const std::string& name) const { return absl::StrCat(folder_, "/", name); }
  // As an operator replaces a file: at once.
  std::string Put(const std::string& name, const std::string& text) const {
    std::ofstream(Path("new")) << text;
    std::filesystem::rename(Path("new"), Path(name));
    return Path(name);
  }
  TlsPaths PutTls(const TestCertificate& certificate, const std::string& client_ca = "") const {
    TlsPaths paths;
    paths.certificate_chain = Put("cert.pem", certificate.certificate);
    paths.private_key = Put("key.pem", certificate.key);
    if (!client_ca.empty()) paths.client_ca = Put("ca.pem", client_ca);
    return paths;
  }

  std::string folder_;
};

class AuthorizerTest : public IdentityTest {
 protected:
  static std::string NameOf(const Authorizer& authorizer,
                            std::vector<absl::string_view> authorization) {
    const absl::StatusOr<std::string> name = authorizer.Check(authorization);
    if (name.ok()) return *name;
    EXPECT_EQ(name.status().code(), absl::StatusCode::kUnauthenticated);
    return "refused";
  }
};

TEST_F(AuthorizerTest, WithoutAFileNobodyNeedsAToken) {
  const auto authorizer = Authorizer::Open("");
  ASSERT_TRUE(authorizer.ok());
  EXPECT_EQ(NameOf(**authorizer, {}), "");
  EXPECT_EQ(NameOf(**authorizer, {"Bearer whatever"}), "");
  EXPECT_TRUE((*authorizer)->Reload().ok());
}

TEST_F(AuthorizerTest, G1_OneKnownTokenLetsIn) {
  const std::string path = Put("tokens",
                               "# who may call\n\n"
                               "alice:0123456789abcdef\r\n"
                               "  bob : zyxwvutsrqponmlk== \n"
                               "A-Za.z0~9+/ABCDEF");
  const auto authorizer = Authorizer::Open(path);
  ASSERT_TRUE(authorizer.ok()) << authorizer.status();
  EXPECT_EQ(NameOf(**authorizer, {"Bearer 0123456789abcdef"}), "alice");
  EXPECT_EQ(NameOf(**authorizer, {"bEaReR   zyxwvutsrqponmlk== "}), "bob");
  EXPECT_EQ(NameOf(**authorizer, {"bearer A-Za.z0~9+/ABCDEF"}), "line 5");
}

TEST_F(AuthorizerTest, G1_AnythingElseIsRefusedInTheSameWords) {
  const auto authorizer = Authorizer::Open(Put("tokens", "alice:0123456789abcdef\n"));
  ASSERT_TRUE(authorizer.ok());
  const std::string long_token = "Bearer " + std::string(1 << 20, 'a');
  const std::vector<std::vector<absl::string_view>> bad = {
      {},
      {""},
      {"Bearer"},
      {"Bearer "},
      {"0123456789abcdef"},
      {"Basic 0123456789abcdef"},
      {"Bearer0123456789abcdef"},
      {"Bearer 0123456789abcdeF"},
      {"Bearer 0123456789abcde"},
      {"Bearer 0123456789abcdef0"},
      {"Bearer alice:0123456789abcdef"},
      {"Bearer 0123456789abcdef, Bearer 0123456789abcdef"},
      {"Bearer 0123456789abcdef", "Bearer 0123456789abcdef"},
      {absl::string_view("Bearer 0123456789abcdef\0", 24)},
      {long_token},
  };
  std::string words;
  for (const auto& authorization : bad) {
    const absl::Status status = (*authorizer)->Check(authorization).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnauthenticated);
    if (words.empty()) words = std::string(status.message());
    EXPECT_EQ(status.message(), words);
  }
  EXPECT_THAT(words, Not(HasSubstr("0123")));
}

TEST_F(AuthorizerTest, WrongLinesAreNamedAndNeverShown) {
  const std::string good = "alice:0123456789abcdef\n";
  const std::pair<std::string, std::string> cases[] = {
      {"", "must hold a token"},
      {"# nothing\n\n", "must hold a token"},
      {good + "bob:SECRETSECRET\n", "line 2 must have a token of 16 to 4096 characters"},
      {good + "bob:SECRET" + std::string(5000, 'x'), "line 2 must have a token of 16"},
      {good + "SECRET\n", "line 2 must have a token of 16"},
      {good + "\nbob:\n", "line 3 must have a token of 16"},
      {good + ":SECRETSECRETSECRET\n", "line 2 must name its token"},
      {good + "b ob:SECRETSECRETSECRET\n", "line 2 must name its token"},
      {good + std::string(65, 'n') + ":SECRETSECRETSECRET\n", "line 2 must name its token"},
      {good + "bob:SECRET SECRET SECRET\n", "line 2 must have a token of letters"},
      {good + "bob:SECRET=SECRET=SECRET\n", "line 2 must have a token of letters"},
      {good + "bob:================\n", "line 2 must have a token of letters"},
      {good + "bob:SECRETSECRET\xC3\xA9SECRET\n", "line 2 must have a token of letters"},
      {good + "alice:SECRETSECRETSECRET\n", "line 2 must have a name that no other line has"},
      {good + "bob:0123456789abcdef\n", "line 2 must have a token that no other line has"},
  };
  for (const auto& [text, error] : cases) {
    const absl::Status status = Authorizer::Open(Put("tokens", text)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), StartsWith("api-key-file: " + error)) << text;
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("SECRET")));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("0123")));
  }
  std::string many;
  for (int i = 0; i < 1025; ++i) absl::StrAppend(&many, "0123456789abcdef", i, "\n");
  EXPECT_THAT(std::string(Authorizer::Open(Put("tokens", many)).status().message()),
              HasSubstr("line 1025 must be one of at most 1024"));
}

TEST_F(AuthorizerTest, WhatIsNoFileIsRefused) {
  EXPECT_THAT(std::string(Authorizer::Open(Path("none")).status().message()),
              StartsWith("api-key-file: must be a file that can be read (No such file"));
  EXPECT_THAT(std::string(Authorizer::Open(folder_).status().message()),
              HasSubstr("must be a regular file"));
  ASSERT_EQ(mkfifo(Path("pipe").c_str(), 0600), 0);
  EXPECT_THAT(std::string(Authorizer::Open(Path("pipe")).status().message()),
              HasSubstr("must be a regular file"));
  EXPECT_THAT(
      std::string(
          Authorizer::Open(Put("large", std::string((1 << 20) + 1, '\n'))).status().message()),
      HasSubstr("must have at most 1048576 bytes"));
}

TEST_F(AuthorizerTest, AReloadReplacesOrChangesNothing) {
  const std::string path = Put("tokens", "alice:0123456789abcdef\n");
  const auto opened = Authorizer::Open(path);
  Authorizer& authorizer = **opened;
  EXPECT_TRUE(authorizer.Reload().ok());
  EXPECT_EQ(authorizer.reloads(), 0);
  // As long as the old one, and perhaps in the same tick of the file system's clock.
  Put("tokens", "bob:fedcba9876543210ab\n");
  EXPECT_TRUE(authorizer.Reload().ok());
  EXPECT_EQ(authorizer.reloads(), 1);
  EXPECT_EQ(NameOf(authorizer, {"Bearer 0123456789abcdef"}), "refused");
  EXPECT_EQ(NameOf(authorizer, {"Bearer fedcba9876543210ab"}), "bob");
  for (const char* bad : {"", "carol:short\n"}) {
    Put("tokens", bad);
    EXPECT_FALSE(authorizer.Reload().ok());
    EXPECT_EQ(NameOf(authorizer, {"Bearer fedcba9876543210ab"}), "bob");
  }
  std::filesystem::remove(path);
  EXPECT_FALSE(authorizer.Reload().ok());
  EXPECT_EQ(NameOf(authorizer, {"Bearer fedcba9876543210ab"}), "bob");
  EXPECT_EQ(authorizer.reloads(), 1);
}

class TlsFilesTest : public IdentityTest {
 protected:
  const TestCertificate authority_ = MakeCertificate("authority");
  const TestCertificate server_ = MakeCertificate("localhost", &authority_);

  static void ExpectRefused(const TlsPaths& paths, const std::string& words) {
    const absl::Status status = TlsFiles::Open(paths).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << words;
    EXPECT_THAT(std::string(status.message()), HasSubstr(words));
    EXPECT_THAT(std::string(status.message()), Not(HasSubstr("PRIVATE")));
  }
};

TEST_F(TlsFilesTest, SoundFilesAreKept) {
  const absl::Time until = absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()) + 1000);
  const TestCertificate own = MakeCertificate("localhost", &authority_, until);
  const TestCertificate chain = {own.certificate + authority_.certificate, own.key};
  const auto files = TlsFiles::Open(PutTls(chain, authority_.certificate));
  ASSERT_TRUE(files.ok()) << files.status();
  const auto material = (*files)->material();
  EXPECT_EQ(material->certificate_chain, chain.certificate);
  EXPECT_EQ(material->private_key, own.key);
  EXPECT_EQ(material->client_ca, authority_.certificate);
  EXPECT_EQ(material->not_after, until);
  EXPECT_TRUE((*files)->Reload().ok());
  EXPECT_EQ((*files)->material(), material);  // nothing has changed
}

TEST_F(TlsFilesTest, NothingAskedIsNoTls) {
  const auto files = TlsFiles::Open({});
  ASSERT_TRUE(files.ok());
  EXPECT_EQ(*files, nullptr);
}

TEST_F(TlsFilesTest, G5_WhatCannotBeUsedIsRefused) {
  const TlsPaths good = PutTls(server_, authority_.certificate);
  TlsPaths paths = good;
  paths.private_key = "";
  ExpectRefused(paths, "ssl-certfile, ssl-keyfile: must be given both");
  paths = TlsPaths();
  paths.client_ca = good.client_ca;
  ExpectRefused(paths, "ssl-ca-certs: must come with --ssl-certfile");
  paths = good;
  paths.certificate_chain = Path("none");
  ExpectRefused(paths, "ssl-certfile: must be a file that can be read (No such file");
  paths = good;
  paths.certificate_chain = Put("bad", "hello\n");
  ExpectRefused(paths, "ssl-certfile: must hold a PEM certificate that can be used");
  paths.certificate_chain = Put("bad", server_.certificate.substr(0, 200));
  ExpectRefused(paths, "ssl-certfile: must hold a PEM certificate that can be used");
  std::string broken = server_.certificate + authority_.certificate;
  broken[server_.certificate.size() + 100] = '!';
  paths.certificate_chain = Put("bad", broken);
  ExpectRefused(paths, "ssl-certfile: must hold a PEM certificate that can be used");
  paths = good;
  paths.private_key = Put("bad", server_.certificate);
  ExpectRefused(paths, "ssl-keyfile: must hold a PEM key without a password");
  paths.private_key = Put("bad", WithPassword(server_.key, "secret"));
  ExpectRefused(paths, "ssl-keyfile: must hold a PEM key without a password");
  paths.private_key = Put("bad", authority_.key);
  ExpectRefused(paths, "ssl-keyfile: must belong to the certificate");
  paths = good;
  paths.client_ca = Put("bad", "");
  ExpectRefused(paths, "ssl-ca-certs: must hold PEM certificates");
}

TEST_F(TlsFilesTest, AReloadKeepsTheOldWhenTheNewIsBad) {
  PutTls(server_);
  const auto files = TlsFiles::Open(PutTls(server_));
  ASSERT_TRUE(files.ok());
  const auto before = (*files)->material();
  const TestCertificate next = MakeCertificate("localhost", &authority_);
  Put("cert.pem", next.certificate);  // its key has not come yet
  EXPECT_FALSE((*files)->Reload().ok());
  EXPECT_EQ((*files)->material(), before);
  Put("key.pem", next.key);
  EXPECT_TRUE((*files)->Reload().ok());
  EXPECT_EQ((*files)->material()->private_key, next.key);
  EXPECT_EQ(before->private_key, server_.key);  // whoever has it keeps it

  const TestCertificate expired =
      MakeCertificate("localhost", &authority_, absl::Now() - absl::Hours(1));
  PutTls(expired);
  EXPECT_THAT(std::string((*files)->Reload().message()), HasSubstr("must not have expired"));
  EXPECT_EQ((*files)->material()->private_key, next.key);
}

TEST_F(TlsFilesTest, AnExpiredCertificateIsTakenWhereThereIsNoBetter) {
  const absl::Time past = absl::Now() - absl::Hours(1);
  const auto files = TlsFiles::Open(PutTls(MakeCertificate("localhost", &authority_, past)));
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_LT((*files)->material()->not_after, absl::Now());
}

class ReloaderTest : public IdentityTest {
 protected:
  void Start() {
    authorizer_ = *Authorizer::Open(Path("tokens"));
    tls_ = *TlsFiles::Open({Path("cert.pem"), Path("key.pem"), ""});
    reloader_ = std::make_unique<Reloader>(authorizer_.get(), tls_.get(),
                                           Reloader::Listener{[this](const std::string& note) {
                                                                absl::MutexLock lock(&mutex_);
                                                                notes_.push_back(note);
                                                              },
                                                              [this](absl::Time until) {
                                                                absl::MutexLock lock(&mutex_);
                                                                until_ = until;
                                                              },
                                                              [this](bool ok) { tokens_ok_ = ok; },
                                                              [this](bool ok) { tls_ok_ = ok; }});
  }
  // The notes, once there are so many.
  std::vector<std::string> Notes(size_t count) {
    absl::MutexLock lock(&mutex_);
    auto there = [this, count]()
                     ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return notes_.size() >= count; };
    mutex_.AwaitWithTimeout(absl::Condition(&there), absl::Seconds(10));
    return notes_;
  }
  // Whether it becomes so.
  static bool Becomes(const std::atomic<bool>& value, bool wanted) {
    for (int i = 0; i < 1000 && value != wanted; ++i) absl::SleepFor(absl::Milliseconds(10));
    return value == wanted;
  }
  absl::Time until() {
    absl::MutexLock lock(&mutex_);
    return until_;
  }

  absl::Mutex mutex_;
  std::vector<std::string> notes_ ABSL_GUARDED_BY(mutex_);
  absl::Time until_ ABSL_GUARDED_BY(mutex_);
  std::atomic<bool> tokens_ok_ = false, tls_ok_ = false;
  std::unique_ptr<Authorizer> authorizer_;
  std::unique_ptr<TlsFiles> tls_;
  std::unique_ptr<Reloader> reloader_;  // last: its thread uses the rest
};

TEST_F(ReloaderTest, D6_WhatIsReplacedComesIntoForceAndIsSaid) {
  const absl::Time first = absl::FromUnixSeconds(absl::ToUnixSeconds(absl::Now()) + 1000);
  PutTls(MakeCertificate("localhost", nullptr, first));
  Put("tokens", "alice:0123456789abcdef\n");
  Start();
  EXPECT_EQ(until(), first);
  Put("tokens", "bob:fedcba9876543210\n");
  EXPECT_THAT(Notes(1), ElementsAre("tokens: reloaded"));
  EXPECT_EQ(*authorizer_->Check({"Bearer fedcba9876543210"}), "bob");

  const absl::Time second = first + absl::Hours(1);
  PutTls(MakeCertificate("localhost", nullptr, second));
  const std::vector<std::string> notes = Notes(2);
  ASSERT_EQ(notes.size(), 2u);
  EXPECT_THAT(notes[1], StartsWith("certificates: reloaded, valid until 20"));
  EXPECT_EQ(until(), second);
}

TEST_F(ReloaderTest, WhatIsWrongIsSaidOnce) {
  PutTls(MakeCertificate("localhost"));
  Put("tokens", "alice:0123456789abcdef\n");
  Start();
  EXPECT_TRUE(tokens_ok_ && tls_ok_);
  Put("tokens", "alice:short\n");
  reloader_->Wake();
  EXPECT_EQ(Notes(1).size(), 1u);
  EXPECT_THAT(Notes(1)[0], StartsWith("tokens: not reloaded, the old ones stay: api-key-file: "));
  absl::SleepFor(2 * Reloader::kInterval + absl::Milliseconds(300));
  EXPECT_EQ(Notes(1).size(), 1u);  // the same fault
  EXPECT_FALSE(tokens_ok_);
  EXPECT_TRUE(tls_ok_);
  std::filesystem::remove(Path("key.pem"));
  EXPECT_EQ(Notes(2).size(), 2u);
  EXPECT_THAT(Notes(2)[1],
              StartsWith("certificates: not reloaded, the old ones stay: ssl-keyfile"));
  EXPECT_EQ(*authorizer_->Check({"Bearer 0123456789abcdef"}), "alice");
  EXPECT_TRUE(Becomes(tls_ok_, false));
  Put("tokens", "alice:fedcba9876543210\n");
  EXPECT_TRUE(Becomes(tokens_ok_, true));
  EXPECT_FALSE(tls_ok_);
}

}  // namespace
}  // namespace pregate
