#include "server/grpc/reflection.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpc/reflection/v1/reflection.grpc.pb.h"
#include "grpc/reflection/v1alpha/reflection.grpc.pb.h"
#include "server/grpc/status.h"

namespace pregate {
namespace {

namespace v1_reflection = grpc::reflection::v1;
namespace v1alpha_reflection = grpc::reflection::v1alpha;
using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;

const DescriptorPool& Pool() { return *DescriptorPool::generated_pool(); }

// `file` after everything that it needs.
void Collect(const FileDescriptor* file, std::set<const FileDescriptor*>* seen,
             std::vector<const FileDescriptor*>* files) {
  if (!seen->insert(file).second) return;
  for (int i = 0; i < file->dependency_count(); ++i) Collect(file->dependency(i), seen, files);
  files->push_back(file);
}

template <typename Response>
void Refuse(absl::string_view what, Response* response) {
  auto* error = response->mutable_error_response();
  error->set_error_code(grpc::NOT_FOUND);
  error->set_error_message(absl::StrCat(what, ": must be one that this server has; got another"));
}

template <typename Response>
void TellFile(const FileDescriptor* file, absl::string_view what, Response* response) {
  if (file == nullptr) return Refuse(what, response);
  std::set<const FileDescriptor*> seen;
  std::vector<const FileDescriptor*> files;
  Collect(file, &seen, &files);
  // Clients expect the file itself first.
  for (auto it = files.rbegin(); it != files.rend(); ++it) {
    google::protobuf::FileDescriptorProto message;
    (*it)->CopyTo(&message);
    response->mutable_file_descriptor_response()->add_file_descriptor_proto(
        message.SerializeAsString());
  }
}

template <typename Response>
void TellExtensions(const std::string& type, Response* response) {
  const Descriptor* message = Pool().FindMessageTypeByName(type);
  if (message == nullptr) return Refuse("all_extension_numbers_of_type", response);
  std::vector<const FieldDescriptor*> extensions;
  Pool().FindAllExtensions(message, &extensions);
  auto* numbers = response->mutable_all_extension_numbers_response();
  numbers->set_base_type_name(type);
  for (const FieldDescriptor* extension : extensions) {
    numbers->add_extension_number(extension->number());
  }
}

template <typename Request, typename Response>
void Answer(const std::vector<std::string>& services, const Request& request, Response* response) {
  response->set_valid_host(request.host());
  *response->mutable_original_request() = request;
  switch (request.message_request_case()) {
    case Request::kFileByFilename:
      return TellFile(Pool().FindFileByName(request.file_by_filename()), "file_by_filename",
                      response);
    case Request::kFileContainingSymbol:
      return TellFile(Pool().FindFileContainingSymbol(request.file_containing_symbol()),
                      "file_containing_symbol", response);
    case Request::kFileContainingExtension: {
      const auto& asked = request.file_containing_extension();
      const Descriptor* type = Pool().FindMessageTypeByName(asked.containing_type());
      const FieldDescriptor* extension =
          type == nullptr ? nullptr : Pool().FindExtensionByNumber(type, asked.extension_number());
      return TellFile(extension == nullptr ? nullptr : extension->file(),
                      "file_containing_extension", response);
    }
    case Request::kAllExtensionNumbersOfType:
      return TellExtensions(request.all_extension_numbers_of_type(), response);
    case Request::kListServices:
      for (const std::string& name : services) {
        response->mutable_list_services_response()->add_service()->set_name(name);
      }
      return;
    case Request::MESSAGE_REQUEST_NOT_SET:
      break;
  }
  auto* error = response->mutable_error_response();
  error->set_error_code(grpc::INVALID_ARGUMENT);
  error->set_error_message("message_request: must be given; got none");
}

// One client's questions, answered one after another. Owns itself.
template <typename Request, typename Response>
class Conversation : public grpc::ServerBidiReactor<Request, Response> {
 public:
  explicit Conversation(const std::vector<std::string>* services) : services_(services) {
    this->StartRead(&request_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::OK);
    response_.Clear();
    Answer(*services_, request_, &response_);
    this->StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) return this->Finish(grpc::Status::OK);
    this->StartRead(&request_);
  }
  void OnDone() override { delete this; }

 private:
  const std::vector<std::string>* const services_;
  Request request_;
  Response response_;
};

template <typename Base, typename Request, typename Response>
class Service : public Base {
 public:
  Service(const Gate* gate, std::vector<std::string> services)
      : gate_(gate), services_(std::move(services)) {}

  grpc::ServerBidiReactor<Request, Response>* ServerReflectionInfo(
      grpc::CallbackServerContext* context) override {
    if (absl::Status refused = gate_->Admit(*context, "ServerReflectionInfo"); !refused.ok()) {
      return new RefusedBidi<Request, Response>(ToGrpcStatus(refused, absl::ZeroDuration()));
    }
    return new Conversation<Request, Response>(&services_);
  }

 private:
  const Gate* const gate_;
  const std::vector<std::string> services_;
};

}  // namespace

std::vector<std::unique_ptr<grpc::Service>> MakeReflection(const Gate* gate,
                                                           std::vector<std::string> services) {
  services.push_back(v1_reflection::ServerReflection::service_full_name());
  services.push_back(v1alpha_reflection::ServerReflection::service_full_name());
  std::vector<std::unique_ptr<grpc::Service>> made;
  made.push_back(
      std::make_unique<
          Service<v1_reflection::ServerReflection::CallbackService,
                  v1_reflection::ServerReflectionRequest, v1_reflection::ServerReflectionResponse>>(
          gate, services));
  made.push_back(std::make_unique<Service<v1alpha_reflection::ServerReflection::CallbackService,
                                          v1alpha_reflection::ServerReflectionRequest,
                                          v1alpha_reflection::ServerReflectionResponse>>(
      gate, std::move(services)));
  return made;
}

}  // namespace pregate
