#include "server/http/io_thread.h"

#include <utility>
#include <vector>

namespace pregate {
namespace {

constexpr std::chrono::milliseconds kTick(250);

}  // namespace

IoThread::IoThread(ServerShare* share)
    : share_(share),
      work_(boost::asio::make_work_guard(context_)),
      tick_(context_),
      mailbox_(std::make_shared<Mailbox>(&context_)),
      thread_([this] { context_.run(); }) {
  mailbox_->Post([this] { StartTick(); });
}

void IoThread::Adopt(std::shared_ptr<Socket> socket, std::string peer, bool turn_away) {
  auto connection = std::make_shared<Connection>(share_, this, std::move(socket), std::move(peer));
  connections_.emplace(connection.get(), connection);
  if (turn_away) {
    connection->TurnAway();
  } else {
    connection->Start();
  }
  if (draining_) connection->Drain();
}

void IoThread::CloseOldestIdle() {
  mailbox_->Post([this] {
    if (!idle_.empty()) idle_.front().connection->Drain();
  });
}

void IoThread::Drain() {
  mailbox_->Post([this] {
    draining_ = true;
    ForEach([](Connection* connection) { connection->Drain(); });
  });
}

void IoThread::CutAll(const absl::Status& why) {
  mailbox_->Post([this, why] { ForEach([&why](Connection* one) { one->Cut(why); }); });
}

void IoThread::Stop() {
  if (!thread_.joinable()) return;
  mailbox_->Close();
  boost::asio::post(context_, [this] { context_.stop(); });
  thread_.join();
  connections_.clear();
}

void IoThread::OnIdle(Connection* connection) {
  const int64_t now = Connection::Clock::now().time_since_epoch().count();
  idle_positions_[connection] = idle_.insert(idle_.end(), {connection, now});
  PublishIdle();
}

void IoThread::OnBusy(Connection* connection) {
  const auto it = idle_positions_.find(connection);
  if (it == idle_positions_.end()) return;
  idle_.erase(it->second);
  idle_positions_.erase(it);
  PublishIdle();
}

void IoThread::OnClosed(Connection* connection) {
  OnBusy(connection);
  connections_.erase(connection);
  absl::MutexLock lock(&share_->mutex);
  --share_->connections;
}

void IoThread::PublishIdle() { idle_since_ = idle_.empty() ? kNoneIdle : idle_.front().since; }

void IoThread::StartTick() {
  tick_.expires_after(kTick);
  tick_.async_wait([this](const boost::system::error_code& error) {
    if (error) return;
    const auto now = Connection::Clock::now();
    ForEach([now](Connection* connection) { connection->CheckDeadline(now); });
    StartTick();
  });
}

// `what` may close the connection.
template <typename Do>
void IoThread::ForEach(Do what) {
  std::vector<std::shared_ptr<Connection>> all;
  all.reserve(connections_.size());
  for (const auto& [key, connection] : connections_) all.push_back(connection);
  for (const auto& connection : all) what(connection.get());
}

}  // namespace pregate
