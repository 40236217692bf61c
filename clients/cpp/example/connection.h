// The connection to the service, and what all calls have in common.
#pragma once

#include <chrono>
#include <memory>
#include <stdexcept>
#include <string>

#include <grpcpp/grpcpp.h>

#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "signalbox/v1/job_service.grpc.pb.h"

// A call has ended with this status.
class CallFailed : public std::runtime_error {
public:
    explicit CallFailed(grpc::Status status);
    const grpc::Status &status() const { return status_; }

private:
    grpc::Status status_;
};

// The name of a status as gRPC's documents write it: UNAVAILABLE.
std::string code_name(grpc::StatusCode code);

// The details of a failed call beside its code and message. Empty without details.
google::rpc::Status details_of(const grpc::Status &status);

// Delays between tries, which double from 0.1 s to 2 s.
class Backoff {
public:
    // At random between half of the nominal delay and all of it, or the longer one that the service asks for.
    std::chrono::milliseconds next(const grpc::Status &status);

private:
    std::chrono::milliseconds nominal_{0};
};

class Connection {
public:
    // The connection that SIGNALBOX_ADDRESS, SIGNALBOX_CA and SIGNALBOX_TOKEN describe. It is opened by the first call, and
    // again when it was lost.
    static Connection from_environment();

    signalbox::v1::JobService::Stub &jobs() { return *jobs_; }

    // The context of one call: it carries the token. A context cannot be used for a second call.
    std::unique_ptr<grpc::ClientContext> context() const;

    // Waits for this long, and then for up to a second more for the connection.
    void pause(std::chrono::milliseconds delay);

    // Makes a unary call, and again while it ends with UNAVAILABLE, for at most call_timeout. The call must be
    // idempotent. Throws CallFailed.
    template <typename Response, typename Request>
    Response call(grpc::Status (signalbox::v1::JobService::Stub::*method)(
                      grpc::ClientContext *, const Request &, Response *),
                  const Request &request) {
        const auto deadline = std::chrono::system_clock::now() + call_timeout;
        Backoff backoff;
        while (true) {
            Response response;
            auto call = context();
            call->set_deadline(deadline);
            const grpc::Status status = (jobs().*method)(call.get(), request, &response);
            if (status.ok()) return response;
            const auto delay = backoff.next(status);
            if (status.error_code() != grpc::StatusCode::UNAVAILABLE ||
                std::chrono::system_clock::now() + delay >= deadline) {
                throw CallFailed(status);
            }
            pause(delay);
        }
    }

private:
    // The deadline of a unary call, including its repetitions.
    static constexpr std::chrono::seconds call_timeout{10};

    std::shared_ptr<grpc::Channel> channel_;
    std::unique_ptr<signalbox::v1::JobService::Stub> jobs_;
    std::string token_;
};
