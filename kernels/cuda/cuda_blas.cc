// Products by cuBLASLt, which is loaded when the device is opened: half a gigabyte that the module
// does without where it is not installed.
#include <cublasLt.h>
#include <dlfcn.h>

#include <array>
#include <cassert>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "kernels/cuda/check.h"
#include "kernels/cuda/cuda_device.h"

namespace pregate {
namespace {

constexpr size_t kWorkspaceBytes = size_t{32} << 20;  // what NVIDIA advises for compute 9.0
constexpr uint32_t kAlignment = 16;                   // of every operand, see HalfProduct
constexpr size_t kMaxPlans = 4096;

void CheckBlas(cublasStatus_t status, const char* what,
               std::source_location where = std::source_location::current()) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    FailCuda(absl::StrCat("cuBLASLt status ", static_cast<int>(status)).c_str(), what, where);
  }
}

// The functions of the library that are used here.
struct Library {
  decltype(&cublasLtCreate) create;
  decltype(&cublasLtDestroy) destroy;
  decltype(&cublasLtMatmulDescCreate) desc_create;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set;
  decltype(&cublasLtMatrixLayoutCreate) layout_create;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set;
  decltype(&cublasLtMatmulAlgoGetHeuristic) get_heuristic;
  decltype(&cublasLtMatmul) matmul;

  // Nothing: it is not installed, or is not what this was compiled for.
  static std::optional<Library> Load() {
    const std::string name = absl::StrCat("libcublasLt.so.", CUBLAS_VER_MAJOR);
    void* const handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) return std::nullopt;
    Library library = {};
    bool complete = true;
    const auto find = [&](const char* function, auto* target) {
      *target = reinterpret_cast<std::remove_pointer_t<decltype(target)>>(dlsym(handle, function));
      complete &= *target != nullptr;
    };
    find("cublasLtCreate", &library.create);
    find("cublasLtDestroy", &library.destroy);
    find("cublasLtMatmulDescCreate", &library.desc_create);
    find("cublasLtMatmulDescDestroy", &library.desc_destroy);
    find("cublasLtMatmulDescSetAttribute", &library.desc_set);
    find("cublasLtMatrixLayoutCreate", &library.layout_create);
    find("cublasLtMatrixLayoutDestroy", &library.layout_destroy);
    find("cublasLtMatmulPreferenceCreate", &library.preference_create);
    find("cublasLtMatmulPreferenceDestroy", &library.preference_destroy);
    find("cublasLtMatmulPreferenceSetAttribute", &library.preference_set);
    find("cublasLtMatmulAlgoGetHeuristic", &library.get_heuristic);
    find("cublasLtMatmul", &library.matmul);
    if (complete) return library;
    dlclose(handle);
    return std::nullopt;
  }
};

// What an algorithm is chosen by: rows, outputs, depth, stride of out.
using Shape = std::array<int64_t, 4>;

// How a shape is multiplied. The library's matrices stand by columns: to it x is [depth, rows], the
// weight [depth, outputs] and transposed by the product, out [outputs, rows].
struct Plan {
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  std::optional<cublasLtMatmulAlgo_t> algorithm;  // nothing: there is none
};

class CudaBlas : public Blas {
 public:
  CudaBlas(const Library& library, cublasLtHandle_t handle, CudaDevice* device,
           DeviceBuffer workspace)
      : library_(library), handle_(handle), device_(*device), workspace_(std::move(workspace)) {
    CheckBlas(library_.desc_create(&desc_, CUBLAS_COMPUTE_32F, CUDA_R_32F), "product");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    CheckBlas(
        library_.desc_set(desc_, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
        "product");
    CheckBlas(library_.preference_create(&preference_), "preference");
    Prefer(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_.size());
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      Prefer(attribute, kAlignment);
    }
    // Parts of a sum meet in the workspace, in one order.
    Prefer(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
           uint32_t{CUBLASLT_REDUCTION_SCHEME_NONE} | CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE);
  }

  ~CudaBlas() override {
    for (const auto& [shape, plan] : plans_) Drop(plan);
    CheckBlas(library_.preference_destroy(preference_), "preference");
    CheckBlas(library_.desc_destroy(desc_), "product");
    CheckBlas(library_.destroy(handle_), "library");
  }

  bool Multiply(const HalfProduct& p) override {
    if (p.rows == 0 || p.outputs == 0) return true;
    assert(p.depth > 0 && p.out_stride >= p.outputs);
    const Plan& plan = PlanFor({p.rows, p.outputs, p.depth, p.out_stride});
    if (!plan.algorithm) return false;
    const float beta = p.accumulate ? 1.0f : 0.0f;
    CheckBlas(library_.matmul(handle_, desc_, &p.alpha, p.weight, plan.weight, p.x, plan.x, &beta,
                              p.out, plan.out, p.out, plan.out, &*plan.algorithm, workspace_.data(),
                              workspace_.size(), static_cast<cudaStream_t>(device_.stream())),
              "product");
    return true;
  }

 private:
  template <typename T>
  void Prefer(cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
    CheckBlas(library_.preference_set(preference_, attribute, &value, sizeof(value)), "preference");
  }

  // Of exactly this shape: an algorithm for another would give other bits to the same rows.
  const Plan& PlanFor(const Shape& shape) {
    if (const auto found = plan_of_.find(shape); found != plan_of_.end()) {
      plans_.splice(plans_.begin(), plans_, found->second);
      return plans_.front().second;
    }
    if (plans_.size() >= kMaxPlans) {
      Drop(plans_.back().second);
      plan_of_.erase(plans_.back().first);
      plans_.pop_back();
    }
    plans_.emplace_front(shape, MakePlan(shape));
    plan_of_[shape] = plans_.begin();
    return plans_.front().second;
  }

  Plan MakePlan(const Shape& shape) const {
    const auto [rows, outputs, depth, out_stride] = shape;
    Plan plan;
    plan.weight = Layout(CUDA_R_16F, depth, outputs, depth);
    plan.x = Layout(CUDA_R_16F, depth, rows, depth);
    plan.out = Layout(CUDA_R_32F, outputs, rows, out_stride);
    cublasLtMatmulHeuristicResult_t result = {};
    int found = 0;
    const cublasStatus_t status = library_.get_heuristic(
        handle_, desc_, plan.weight, plan.x, plan.out, plan.out, preference_, 1, &result, &found);
    if (status == CUBLAS_STATUS_SUCCESS && found > 0 && result.state == CUBLAS_STATUS_SUCCESS) {
      plan.algorithm = result.algo;
    }
    return plan;
  }

  cublasLtMatrixLayout_t Layout(cudaDataType_t type, int64_t rows, int64_t cols,
                                int64_t stride) const {
    cublasLtMatrixLayout_t layout = nullptr;
    CheckBlas(library_.layout_create(&layout, type, static_cast<uint64_t>(rows),
                                     static_cast<uint64_t>(cols), stride),
              "matrix");
    return layout;
  }

  void Drop(const Plan& plan) const {
    for (const auto layout : {plan.weight, plan.x, plan.out}) {
      CheckBlas(library_.layout_destroy(layout), "matrix");
    }
  }

  const Library library_;
  const cublasLtHandle_t handle_;
  CudaDevice& device_;
  const DeviceBuffer workspace_;
  cublasLtMatmulDesc_t desc_ = nullptr;
  cublasLtMatmulPreference_t preference_ = nullptr;
  std::list<std::pair<Shape, Plan>> plans_;  // the one used last comes first
  absl::flat_hash_map<Shape, std::list<std::pair<Shape, Plan>>::iterator> plan_of_;
};

}  // namespace

std::unique_ptr<Blas> MakeCudaBlas(CudaDevice* device) {
  const std::optional<Library> library = Library::Load();
  if (!library) return nullptr;
  cublasLtHandle_t handle = nullptr;
  if (library->create(&handle) != CUBLAS_STATUS_SUCCESS) return nullptr;
  absl::StatusOr<DeviceBuffer> workspace = device->Allocate(kWorkspaceBytes);
  if (!workspace.ok()) {
    CheckBlas(library->destroy(handle), "library");
    return nullptr;
  }
  return std::make_unique<CudaBlas>(*library, handle, device, *std::move(workspace));
}

}  // namespace pregate
