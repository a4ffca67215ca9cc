#include "engine/model/sharded_transformer.h"

#include <cassert>
#include <map>
#include <utility>

#include "kernels/rank_thread.h"

namespace pregate {
namespace {

// A rank besides the caller's. All that it has is its thread's to use while a call runs there.
struct Peer {
  Peer(std::unique_ptr<ModelShare> its_share, bool may_spin)
      : share(std::move(its_share)), thread(may_spin) {}
  ~Peer() {
    // Where they were made: a GPU is its thread's.
    thread.Start([this] {
      kv.reset();
      transformer.reset();
      backend.device.reset();
    });
    thread.Wait();
  }

  const std::unique_ptr<ModelShare> share;
  Backend backend;
  std::unique_ptr<Transformer> transformer;
  std::unique_ptr<KvStorage> kv;
  absl::Status status;  // of the last call
  RankThread thread;
};

class RankedTransformer : public ShardedTransformer {
 public:
  explicit RankedTransformer(Ranks ranks) : ranks_(std::move(ranks)) {
    for (size_t r = 1; r < ranks_.shares.size(); ++r) {
      peers_.push_back(std::make_unique<Peer>(std::move(ranks_.shares[r]), ranks_.may_spin));
    }
  }

  // Each rank reads and packs its own, at the same time.
  absl::Status Load(const Options& options) {
    ForPeers([&](Peer& peer) {
      absl::StatusOr<Backend> backend = ranks_.open(*peer.share);
      if (!backend.ok()) return backend.status();
      peer.backend = *std::move(backend);
      Options own = options;
      own.communicator = ranks_.ends[static_cast<size_t>(peer.share->config().shard.rank)].get();
      own.progress = nullptr;
      absl::StatusOr<std::unique_ptr<Transformer>> transformer =
          Transformer::Create(*peer.share, peer.backend.device.get(), peer.backend.kernels, own);
      if (transformer.ok()) peer.transformer = *std::move(transformer);
      return transformer.status();
    });
    Options own = options;
    own.communicator = ranks_.ends[0].get();
    absl::StatusOr<std::unique_ptr<Transformer>> transformer =
        Transformer::Create(*ranks_.shares[0], ranks_.device, ranks_.kernels, own);
    const absl::Status others = WaitForPeers();
    if (!transformer.ok()) return transformer.status();
    own_ = *std::move(transformer);
    return others;
  }

  absl::StatusOr<std::unique_ptr<KvStorage>> MakeKv(DType dtype, int32_t block_tokens,
                                                    int32_t num_blocks) override {
    ForPeers([=](Peer& peer) {
      absl::StatusOr<std::unique_ptr<KvStorage>> kv =
          peer.transformer->MakeKv(dtype, block_tokens, num_blocks);
      if (kv.ok()) peer.kv = *std::move(kv);
      return kv.status();
    });
    absl::StatusOr<std::unique_ptr<KvStorage>> own = own_->MakeKv(dtype, block_tokens, num_blocks);
    const absl::Status others = WaitForPeers();
    if (!others.ok()) return others;
    return own;
  }

  // A step fails only where experts are loaded on the way, which ranks do not: whoever fails
  // otherwise ends the process, so that no rank waits for one that will not come.
  absl::StatusOr<Tensor> Forward(const BatchPlan& plan, const KvStorage& kv) override {
    ForPeers([&plan](Peer& peer) { return peer.transformer->Forward(plan, *peer.kv).status(); });
    absl::StatusOr<Tensor> logits = own_->Forward(plan, kv);
    const absl::Status others = WaitForPeers();
    assert(logits.ok() && others.ok());
    return logits;
  }

  ConstTensor logit_hidden() const override { return own_->logit_hidden(); }
  ExpertStore* expert_store() const override { return nullptr; }
  const PackedWeight& embedding() const override { return own_->embedding(); }

  std::vector<ExpertUnitSize> ExpertUnits() const override {
    std::map<uint64_t, int64_t> bytes;
    ForEach([&](const Transformer& rank) {
      for (const ExpertUnitSize& unit : rank.ExpertUnits()) bytes[unit.readers] += unit.bytes;
    });
    std::vector<ExpertUnitSize> units;
    for (const auto& [readers, size] : bytes) units.push_back({readers, size});
    return units;
  }
  int64_t weight_bytes() const override {
    int64_t bytes = 0;
    ForEach([&](const Transformer& rank) { bytes += rank.weight_bytes(); });
    return bytes;
  }
  std::vector<int64_t> rank_weight_bytes() const override {
    std::vector<int64_t> bytes;
    ForEach([&](const Transformer& rank) { bytes.push_back(rank.weight_bytes()); });
    return bytes;
  }
  int64_t num_parameters() const override {
    int64_t parameters = -Repeated();
    ForEach([&](const Transformer& rank) { parameters += rank.num_parameters(); });
    return parameters;
  }
  double StepBytes(int64_t rows) const override {
    double bytes = 0;
    ForEach([&](const Transformer& rank) { bytes += rank.StepBytes(rows); });
    return bytes;
  }
  double RowParameters() const override {
    double parameters = -static_cast<double>(Repeated());
    ForEach([&](const Transformer& rank) { parameters += rank.RowParameters(); });
    return parameters;
  }

 private:
  // Starts `call` for every rank besides the caller's; WaitForPeers is to follow.
  void ForPeers(const std::function<absl::Status(Peer&)>& call) {
    for (const std::unique_ptr<Peer>& peer : peers_) {
      peer->thread.Start([call, peer = peer.get()] { peer->status = call(*peer); });
    }
  }
  // The first that failed.
  absl::Status WaitForPeers() {
    absl::Status status;
    for (const std::unique_ptr<Peer>& peer : peers_) {
      peer->thread.Wait();
      status.Update(peer->status);
    }
    return status;
  }

  template <typename Body>
  void ForEach(const Body& body) const {
    body(*own_);
    for (const std::unique_ptr<Peer>& peer : peers_) body(*peer->transformer);
  }
  int64_t Repeated() const {
    int64_t parameters = ranks_.shares[0]->repeated_parameters();
    for (const std::unique_ptr<Peer>& peer : peers_) {
      parameters += peer->share->repeated_parameters();
    }
    return parameters;
  }

  Ranks ranks_;  // its shares but the first are the peers'
  std::unique_ptr<Transformer> own_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Transformer>> ShardedTransformer::Create(Ranks ranks,
                                                                        Options options) {
  assert(ranks.shares.size() == ranks.ends.size() && ranks.shares.size() > 1);
  assert(options.expert_memory.bytes == 0);
  auto transformer = std::make_unique<RankedTransformer>(std::move(ranks));
  if (absl::Status status = transformer->Load(options); !status.ok()) return status;
  return transformer;
}

}  // namespace pregate
