// Enqueues jobs, watches them to their end, and cancels them: a client of Signalbox with gRPC's C++ library.
//
//     example run KIND USER PAYLOAD           enqueue a job and watch it to its end
//     example watch JOB_ID [AFTER_SEQUENCE]   watch a job that exists
//     example cancel JOB_ID [NOTE]            cancel a job
//     example invalid                         show what the service says of an invalid request
//     example leave COUNT KIND USER PAYLOAD   leave watches before their end
//
// The environment has SIGNALBOX_ADDRESS (host:port), SIGNALBOX_CA (a PEM file of authorities; with it the connection
// uses TLS) and SIGNALBOX_TOKEN. Each line of the output is a JSON object.
#include <iostream>
#include <string>
#include <vector>

#include <uuid/uuid.h>

#include "connection.h"
#include "watch.h"

namespace api = signalbox::v1;

namespace {

std::string new_uuid() {
    uuid_t uuid;
    char text[UUID_STR_LEN];
    uuid_generate(uuid);
    uuid_unparse_lower(uuid, text);
    return text;
}

// Adds a job. Its id is chosen here, so that repeating the call does not add another one.
api::Job enqueue(Connection &connection, const std::string &kind, const std::string &user,
                 const std::string &payload) {
    api::EnqueueRequest request;
    request.mutable_job()->set_job_id(new_uuid());
    request.mutable_job()->set_kind(kind);
    request.mutable_job()->set_user_id(user);
    request.mutable_job()->set_payload(payload);
    const api::EnqueueResponse response = connection.call(&api::JobService::Stub::Enqueue, request);
    show({{"job_id", response.job().id()}, {"created", response.created()}});
    return response.job();
}

// Asks the service to end a job. One that runs becomes CANCELLED when its handler has ended.
api::Job cancel(Connection &connection, const std::string &job_id, const std::string &note) {
    api::CancelRequest request;
    request.set_job_id(job_id);
    request.set_note(note);
    return connection.call(&api::JobService::Stub::Cancel, request).job();
}

// Sends a request with two mistakes, which the service describes in the details of the status.
void invalid(Connection &connection) {
    try {
        enqueue(connection, "", std::string(300, 'u'), "{}");
        throw std::runtime_error("the service has accepted an invalid job");
    } catch (const CallFailed &error) {
        if (error.status().error_code() != grpc::StatusCode::INVALID_ARGUMENT) throw;
        auto violations = nlohmann::ordered_json::array();
        const google::rpc::Status details = details_of(error.status());
        for (const auto &detail : details.details()) {
            google::rpc::BadRequest request;
            if (!detail.UnpackTo(&request)) continue;
            for (const auto &violation : request.field_violations()) {
                violations.push_back({{"field", violation.field()}, {"description", violation.description()}});
            }
        }
        show({{"code", code_name(error.status().error_code())}, {"violations", violations}});
    }
}

// Opens watches of one job, and cancels each after its first message. A watch that is no longer read must be
// cancelled, or it stays open on the service.
void leave(Connection &connection, size_t count, const std::string &kind, const std::string &user,
           const std::string &payload) {
    const std::string job_id = enqueue(connection, kind, user, payload).id();
    api::WatchRequest request;
    request.add_jobs()->set_job_id(job_id);

    struct Watch {
        // The stream uses the context until its end.
        std::unique_ptr<grpc::ClientContext> context;
        std::unique_ptr<grpc::ClientReader<api::WatchResponse>> stream;
    };
    std::vector<Watch> watches(count);
    for (Watch &watch : watches) {
        watch.context = connection.context();
        watch.stream = connection.jobs().Watch(watch.context.get(), request);
    }
    for (Watch &watch : watches) {
        api::WatchResponse message;
        if (!watch.stream->Read(&message)) throw CallFailed(watch.stream->Finish());
        watch.context->TryCancel();
        watch.stream->Finish();
    }
    show({{"left", count}});
    cancel(connection, job_id, "");
}

bool run(Connection &connection, const std::string &command, const std::vector<std::string> &arguments) {
    const size_t count = arguments.size();
    if (command == "run" && count == 3) {
        api::WatchRequest request;
        request.add_jobs()->set_job_id(enqueue(connection, arguments[0], arguments[1], arguments[2]).id());
        watch(connection, request);
    } else if (command == "watch" && (count == 1 || count == 2)) {
        api::WatchRequest request;
        request.add_jobs()->set_job_id(arguments[0]);
        if (count == 2) request.mutable_jobs(0)->set_after_sequence(std::stoll(arguments[1]));
        watch(connection, request);
    } else if (command == "cancel" && (count == 1 || count == 2)) {
        const api::Job job = cancel(connection, arguments[0], count == 2 ? arguments[1] : "");
        show({{"state", state_name(job.state())}});
    } else if (command == "invalid" && count == 0) {
        invalid(connection);
    } else if (command == "leave" && count == 4) {
        leave(connection, std::stoul(arguments[0]), arguments[1], arguments[2], arguments[3]);
    } else {
        return false;
    }
    return true;
}

}  // namespace

int main(int argc, char **argv) {
    const std::vector<std::string> arguments(argv + std::min(argc, 2), argv + argc);
    try {
        Connection connection = Connection::from_environment();
        if (run(connection, argc > 1 ? argv[1] : "", arguments)) return 0;
        std::cerr << "usage: example run|watch|cancel|invalid|leave …; main.cpp begins with the arguments of each\n";
    } catch (const std::exception &error) {
        std::cerr << "example: " << error.what() << "\n";
    }
    return 1;
}
