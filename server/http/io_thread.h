// IoThread: a thread and the connections that belong to it. Private to server/http.
#ifndef PREGATE_SERVER_HTTP_IO_THREAD_H_
#define PREGATE_SERVER_HTTP_IO_THREAD_H_

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <limits>
#include <list>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>

#include "server/http/connection.h"

namespace pregate {

class IoThread : public ConnectionHost {
 public:
  explicit IoThread(ServerShare* share);
  ~IoThread() override { Stop(); }
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  boost::asio::io_context& context() { return context_; }
  const std::shared_ptr<Mailbox>& mailbox() override { return mailbox_; }

  // On this thread: begins a connection, or tells it that there is no room.
  void Adopt(std::shared_ptr<Socket> socket, std::string peer, bool turn_away);

  // Since when its connection that has been idle longest has been so, as a count of the clock;
  // kNoneIdle: none is. Thread-safe, as is what follows.
  static constexpr int64_t kNoneIdle = std::numeric_limits<int64_t>::max();
  int64_t idle_since() const { return idle_since_; }
  void CloseOldestIdle();
  // No connection lives longer than its answer.
  void Drain();
  void CutAll(const absl::Status& why);
  // Ends the thread. What is posted later is not run.
  void Stop();

 private:
  struct Idle {
    Connection* connection;
    int64_t since;
  };

  void OnIdle(Connection* connection) override;
  void OnBusy(Connection* connection) override;
  void OnClosed(Connection* connection) override;
  void PublishIdle();
  void StartTick();
  template <typename Do>
  void ForEach(Do what);

  ServerShare* const share_;
  boost::asio::io_context context_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer tick_;
  const std::shared_ptr<Mailbox> mailbox_;

  // This thread's own.
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::list<Idle> idle_;  // longest first
  std::unordered_map<Connection*, std::list<Idle>::iterator> idle_positions_;
  bool draining_ = false;

  std::atomic<int64_t> idle_since_ = kNoneIdle;
  std::thread thread_;  // last: starts when everything above stands
};

}  // namespace pregate

#endif  // PREGATE_SERVER_HTTP_IO_THREAD_H_
