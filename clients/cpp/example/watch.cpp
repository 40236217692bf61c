#include "watch.h"

#include <algorithm>
#include <iostream>

namespace api = signalbox::v1;

using Clock = std::chrono::steady_clock;

namespace {

// Limits how long a watch that was interrupted tries to resume without receiving a message.
constexpr std::chrono::seconds resume_max{30};

std::string without_prefix(const std::string &name, const std::string &prefix) {
    return name.rfind(prefix, 0) == 0 ? name.substr(prefix.size()) : name;
}

// The name of the type without its prefix. A type that a newer service has added counts as UNSPECIFIED.
std::string type_name(api::JobEventType type) {
    const auto known = api::JobEventType_IsValid(type) ? type : api::JOB_EVENT_TYPE_UNSPECIFIED;
    return without_prefix(api::JobEventType_Name(known), "JOB_EVENT_TYPE_");
}

// The sequence after which a watch resumes that has received only this snapshot. The snapshot of a final job is
// followed by the job's last event, which has the same sequence and is still to come.
int64_t resume_sequence(const api::Job &job) {
    switch (job.state()) {
    case api::JOB_STATE_SUCCEEDED:
    case api::JOB_STATE_FAILED:
    case api::JOB_STATE_CANCELLED:
        return job.sequence() - 1;
    default:
        return job.sequence();
    }
}

// Prints a message, and keeps in `watched` how far the watch has come.
void receive(const api::WatchResponse &message, api::WatchedJob &watched) {
    switch (message.event_case()) {
    case api::WatchResponse::kSnapshot: {
        const api::Job &job = message.snapshot().job();
        watched.set_after_sequence(std::max(resume_sequence(job), watched.after_sequence()));
        show({{"event", "snapshot"}, {"state", state_name(job.state())}, {"sequence", job.sequence()}});
        break;
    }
    case api::WatchResponse::kLifecycle: {
        const api::JobEvent &event = message.lifecycle();
        // A stream that resumes by a token may repeat the latest events.
        if (event.sequence() <= watched.after_sequence()) break;
        watched.set_after_sequence(event.sequence());
        show({{"event", "lifecycle"},
              {"type", type_name(event.type())},
              {"state", state_name(event.state())},
              {"sequence", event.sequence()}});
        break;
    }
    case api::WatchResponse::kProgress: {
        const api::Progress &progress = message.progress().progress();
        // Null if it is not known.
        nlohmann::ordered_json fraction;
        if (progress.has_fraction()) fraction = progress.fraction();
        show({{"event", "progress"}, {"fraction", fraction}, {"attempt", message.progress().attempt()}});
        break;
    }
    default:
        // Messages that need no line, and messages of a newer service.
        break;
    }
}

struct StreamEnd {
    // OK means that the job is final.
    grpc::Status status;
    bool has_received = false;
    // The service could not go on from the token, and the stream was left before the snapshot that it sends instead.
    bool is_token_refused = false;
};

// Reads one stream to its end, and keeps in the request how far it came: the next stream begins there.
StreamEnd read_stream(Connection &connection, api::WatchRequest &request) {
    auto context = connection.context();
    auto stream = connection.jobs().Watch(context.get(), request);
    api::WatchResponse message;
    StreamEnd end;
    while (stream->Read(&message)) {
        end.has_received = true;
        if (message.has_opened() && !message.opened().resumed() && !request.resume_token().empty()) {
            end.is_token_refused = true;
            context->TryCancel();
            break;
        }
        receive(message, *request.mutable_jobs(0));
        if (!message.resume_token().empty()) request.set_resume_token(message.resume_token());
    }
    end.status = stream->Finish();
    return end;
}

// Whether a watch that ended with this status can end otherwise.
bool is_worth_retrying(const grpc::Status &status) {
    switch (status.error_code()) {
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::NOT_FOUND:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::FAILED_PRECONDITION:
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
    case grpc::StatusCode::UNIMPLEMENTED:
        return false;
    default:
        return true;
    }
}

// Prints the state of a final job, and its result. An event has the result too, but not a large one.
void show_end(Connection &connection, const std::string &job_id) {
    api::GetJobRequest request;
    request.set_job_id(job_id);
    const api::Job job = connection.call(&api::JobService::Stub::GetJob, request).job();
    show({{"event", "end"}, {"state", state_name(job.state())}, {"result", job.result().data()}});
}

}  // namespace

void watch(Connection &connection, api::WatchRequest request) {
    Backoff backoff;
    auto give_up_at = Clock::now() + resume_max;
    while (true) {
        const auto [status, has_received, is_token_refused] = read_stream(connection, request);
        if (is_token_refused) {
            // It can go on after the sequence of the last event.
            request.clear_resume_token();
            continue;
        }
        if (status.ok()) return show_end(connection, request.jobs(0).job_id());
        if (has_received) {
            backoff = Backoff();
            give_up_at = Clock::now() + resume_max;
        }
        const auto delay = backoff.next(status);
        if (!is_worth_retrying(status) || Clock::now() + delay > give_up_at) throw CallFailed(status);
        show({{"event", "reconnect"}, {"code", code_name(status.error_code())}});
        connection.pause(delay);
    }
}

void show(const nlohmann::ordered_json &line) {
    // A result need not be UTF-8, which JSON has to be.
    std::cout << line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) << std::endl;
}

std::string state_name(api::JobState state) {
    const auto known = api::JobState_IsValid(state) ? state : api::JOB_STATE_UNSPECIFIED;
    return without_prefix(api::JobState_Name(known), "JOB_STATE_");
}
