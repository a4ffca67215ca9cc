// The HTTP listener behind TLS: rows G3, G4 and D6 of the bad-input matrix.
#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <atomic>
#include <memory>
#include <string>

#include "tests/server/certificates.h"
#include "tests/server/http_server_fixture.h"

namespace pregate {
namespace {

// Material that a test replaces.
class TestTlsFiles : public TlsFiles {
 public:
  void Set(const TestCertificate& own, const std::string& client_ca = "") {
    auto material = std::make_shared<TlsMaterial>();
    material->certificate_chain = own.certificate;
    material->private_key = own.key;
    material->client_ca = client_ca;
    absl::MutexLock lock(&mutex_);
    material_ = std::move(material);
  }
  std::shared_ptr<const TlsMaterial> material() const override {
    absl::MutexLock lock(&mutex_);
    return material_;
  }
  absl::Status Reload() override { return absl::OkStatus(); }

 private:
  mutable absl::Mutex mutex_;
  std::shared_ptr<const TlsMaterial> material_;
};

X509* ReadCertificate(const std::string& pem) {
  BIO* bio = BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size()));
  X509* certificate = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr);
  BIO_free(bio);
  return certificate;
}

// A client of OpenSSL's, which blocks.
class TlsClient {
 public:
  // `own`: the certificate it shows; null: none.
  TlsClient(int port, const TestCertificate* own = nullptr, int newest = TLS1_3_VERSION)
      : socket_(port), context_(SSL_CTX_new(TLS_client_method())) {
    SSL_CTX_set_security_level(context_, 0);  // TLS 1.1 may be tried
    SSL_CTX_set_max_proto_version(context_, newest);
    if (own != nullptr) Use(*own);
    ssl_ = SSL_new(context_);
    SSL_set_fd(ssl_, socket_.fd());
    agreed_ = SSL_connect(ssl_) == 1;
  }
  ~TlsClient() {
    SSL_free(ssl_);
    SSL_CTX_free(context_);
  }
  TlsClient(const TlsClient&) = delete;
  TlsClient& operator=(const TlsClient&) = delete;

  // Sends, and reads until `bytes` have come or the connection ends.
  std::string Ask(const std::string& text, size_t bytes) {
    if (!agreed_ || SSL_write(ssl_, text.data(), static_cast<int>(text.size())) <= 0) return "";
    std::string got;
    char buffer[16384];
    while (got.size() < bytes) {
      const int size = SSL_read(ssl_, buffer, sizeof(buffer));
      if (size <= 0) break;
      got.append(buffer, static_cast<size_t>(size));
    }
    return got;
  }
  // Whether it is served. With TLS 1.3 a client learns only now that its certificate was refused.
  bool Served() { return Ask(GetText("/open"), 15).substr(0, 15) == "HTTP/1.1 200 OK"; }

  bool agreed() const { return agreed_; }
  // The serial number of the server's certificate.
  int64_t ServerSerial() const {
    X509* certificate = SSL_get1_peer_certificate(ssl_);
    const int64_t serial = ASN1_INTEGER_get(X509_get0_serialNumber(certificate));
    X509_free(certificate);
    return serial;
  }
  HttpClient& socket() { return socket_; }

 private:
  void Use(const TestCertificate& own) {
    X509* certificate = ReadCertificate(own.certificate);
    BIO* bio = BIO_new_mem_buf(own.key.data(), static_cast<int>(own.key.size()));
    EVP_PKEY* key = PEM_read_bio_PrivateKey(bio, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(context_, certificate);
    SSL_CTX_use_PrivateKey(context_, key);
    EVP_PKEY_free(key);
    BIO_free(bio);
    X509_free(certificate);
  }

  HttpClient socket_;
  SSL_CTX* context_;
  SSL* ssl_ = nullptr;
  bool agreed_ = false;
};

class HttpTlsTest : public HttpServerFixture {
 protected:
  void StartTls(const std::string& client_ca = "") {
    files_.Set(own_, client_ca);
    HttpServerOptions options;
    options.tls = &files_;
    options.request_timeout = absl::Seconds(1);
    options.on_failed_handshake = [this] { ++failed_; };
    Start(options);
  }

  bool AwaitFailed(int count) {
    for (int i = 0; i < 500 && failed_ < count; ++i) absl::SleepFor(absl::Milliseconds(10));
    return failed_ == count;
  }

  // In place of the fixture's, which speaks plain text.
  void TearDown() override {
    if (server_ == nullptr) return;
    EXPECT_TRUE(TlsClient(server_->port(), client_).Served());
    server_->Shutdown(absl::ZeroDuration());
  }

  const TestCertificate own_ = MakeCertificate("localhost");
  const TestCertificate* client_ = nullptr;  // that TearDown shows
  TestTlsFiles files_;
  std::atomic<int> failed_ = 0;
};

TEST_F(HttpTlsTest, AnswersAndStreams) {
  StartTls();
  TlsClient client(server_->port());
  ASSERT_TRUE(client.agreed());
  EXPECT_TRUE(client.Served());
  TlsClient large(server_->port());
  const std::string body(1 << 20, 'x');
  const std::string got = large.Ask(PostText("/a", body, "Connection: close\r\n"), 2 << 20);
  EXPECT_NE(got.find("|" + body), std::string::npos);
  TlsClient pieces(server_->port());
  EXPECT_NE(pieces.Ask(GetText("/pieces", "Connection: close\r\n"), 1 << 20).find("one "),
            std::string::npos);
}

TEST_F(HttpTlsTest, G3_WhatIsNoTlsIsRefusedAndCounted) {
  StartTls();
  HttpClient plain(server_->port());
  plain.Send(GetText("/open"));
  EXPECT_TRUE(plain.AwaitEnd());
  EXPECT_EQ(plain.unread().find("HTTP"), std::string::npos);
  EXPECT_TRUE(AwaitFailed(1));
  EXPECT_FALSE(TlsClient(server_->port(), nullptr, TLS1_1_VERSION).agreed());
  EXPECT_TRUE(AwaitFailed(2));
  EXPECT_TRUE(TlsClient(server_->port(), nullptr, TLS1_2_VERSION).Served());
  // One that says nothing is not waited for.
  HttpClient silent(server_->port());
  EXPECT_TRUE(silent.AwaitEnd(absl::Seconds(5)));
  EXPECT_TRUE(AwaitFailed(3));
  HttpClient garbage(server_->port());
  garbage.Send(std::string(100000, '\x16'));
  EXPECT_TRUE(garbage.AwaitEnd());
  EXPECT_TRUE(AwaitFailed(4));
}

TEST_F(HttpTlsTest, G4_ClientsMustShowACertificate) {
  const TestCertificate authority = MakeCertificate("authority");
  const TestCertificate other = MakeCertificate("other authority");
  const TestCertificate good = MakeCertificate("client", &authority);
  const TestCertificate wrong = MakeCertificate("client", &other);
  const TestCertificate expired =
      MakeCertificate("client", &authority, absl::Now() - absl::Hours(1));
  StartTls(authority.certificate);
  client_ = &good;
  EXPECT_TRUE(TlsClient(server_->port(), &good).Served());
  EXPECT_FALSE(TlsClient(server_->port()).Served());
  EXPECT_FALSE(TlsClient(server_->port(), &wrong).Served());
  EXPECT_FALSE(TlsClient(server_->port(), &expired).Served());
  EXPECT_TRUE(AwaitFailed(3));
  EXPECT_TRUE(TlsClient(server_->port(), &good).Served());
  client_ = nullptr;
  files_.Set(own_);
}

TEST_F(HttpTlsTest, D6_NewMaterialIsForNewConnections) {
  StartTls();
  TlsClient old(server_->port());
  const int64_t before = old.ServerSerial();
  EXPECT_TRUE(old.Served());
  files_.Set(MakeCertificate("localhost"));
  TlsClient renewed(server_->port());
  EXPECT_NE(renewed.ServerSerial(), before);
  EXPECT_TRUE(renewed.Served());
  EXPECT_TRUE(old.Served());
  // What cannot be used does not replace what can.
  files_.Set({"no certificate", "no key"});
  EXPECT_TRUE(TlsClient(server_->port()).Served());
}

TEST_F(HttpTlsTest, B8_AClientThatLeavesIsNoticed) {
  StartTls();
  TlsClient client(server_->port());
  ASSERT_TRUE(client.agreed());
  client.Ask(GetText("/wait"), 0);
  const std::shared_ptr<Waiter> waiter = AwaitWaiter();
  ASSERT_NE(waiter, nullptr);
  client.socket().Reset();
  EXPECT_TRUE(waiter->AwaitGone());
}

TEST_F(HttpTlsTest, MaterialThatCannotBeUsedIsSaidAtTheStart) {
  TestTlsFiles files;
  files.Set({"no certificate", "no key"});
  HttpServerOptions options;
  options.tls = &files;
  EXPECT_TRUE(absl::IsFailedPrecondition(HttpServer::Start(options, {}).status()));
}

}  // namespace
}  // namespace pregate
