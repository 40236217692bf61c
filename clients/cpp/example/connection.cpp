#include "connection.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <random>
#include <sstream>
#include <thread>

namespace {

std::string variable(const char *name) {
    const char *value = std::getenv(name);
    return value == nullptr ? "" : value;
}

std::string read_file(const std::string &path) {
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    if (!file || text.str().empty()) throw std::runtime_error("cannot read " + path);
    return text.str();
}

}  // namespace

CallFailed::CallFailed(grpc::Status status)
    : std::runtime_error(code_name(status.error_code()) + ": " + status.error_message()),
      status_(std::move(status)) {}

std::string code_name(grpc::StatusCode code) {
    static const char *const names[] = {
        "OK",           "CANCELLED",      "UNKNOWN",           "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
        "NOT_FOUND",    "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION",
        "ABORTED",      "OUT_OF_RANGE",   "UNIMPLEMENTED",     "INTERNAL",           "UNAVAILABLE",
        "DATA_LOSS",    "UNAUTHENTICATED"};
    const auto number = static_cast<size_t>(code);
    return number < std::size(names) ? names[number] : std::to_string(number);
}

google::rpc::Status details_of(const grpc::Status &status) {
    google::rpc::Status details;
    if (!details.ParseFromString(status.error_details())) details.Clear();
    return details;
}

std::chrono::milliseconds Backoff::next(const grpc::Status &status) {
    using std::chrono::milliseconds;
    nominal_ = std::clamp(2 * nominal_, milliseconds{100}, milliseconds{2'000});
    static std::mt19937 random{std::random_device{}()};
    milliseconds delay{
        std::uniform_int_distribution<milliseconds::rep>(nominal_.count() / 2, nominal_.count())(random)};
    const google::rpc::Status details = details_of(status);
    for (const auto &detail : details.details()) {
        if (google::rpc::RetryInfo retry; detail.UnpackTo(&retry)) {
            const auto &asked = retry.retry_delay();
            delay = std::max(delay, milliseconds{1'000 * asked.seconds() + asked.nanos() / 1'000'000});
        }
    }
    return delay;
}

Connection Connection::from_environment() {
    const std::string address = variable("SIGNALBOX_ADDRESS"), ca = variable("SIGNALBOX_CA");
    if (address.empty()) throw std::runtime_error("SIGNALBOX_ADDRESS is not set: host:port of the server");

    grpc::ChannelArguments arguments;
    // A connection that does not answer a ping is dead.
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
    // A watch sends nothing, and by default gRPC stops after two pings without data.
    arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
    // By default gRPC waits up to two minutes before it tries to connect again.
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);

    auto credentials = grpc::InsecureChannelCredentials();
    if (!ca.empty()) {
        grpc::SslCredentialsOptions options;
        options.pem_root_certs = read_file(ca);
        credentials = grpc::SslCredentials(options);
    }
    Connection connection;
    connection.channel_ = grpc::CreateCustomChannel(address, credentials, arguments);
    connection.jobs_ = signalbox::v1::JobService::NewStub(connection.channel_);
    connection.token_ = variable("SIGNALBOX_TOKEN");
    return connection;
}

void Connection::pause(std::chrono::milliseconds delay) {
    std::this_thread::sleep_for(delay);
    // With the synchronous API, a connection is made only while a thread waits for it or for a call.
    channel_->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds{1});
}

std::unique_ptr<grpc::ClientContext> Connection::context() const {
    auto context = std::make_unique<grpc::ClientContext>();
    // Without TLS others can read the token, which is right only for a server on this machine.
    if (!token_.empty()) context->AddMetadata("authorization", "Bearer " + token_);
    return context;
}
