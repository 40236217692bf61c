// Watching a job.
#pragma once

#include <string>

#include <nlohmann/json.hpp>

#include "connection.h"

// Prints what happens to the one job of the request until it is final. When the connection is lost it resumes after the
// last event that it has, so that every event is printed once. Throws CallFailed.
void watch(Connection &connection, signalbox::v1::WatchRequest request);

// Prints one line of the output.
void show(const nlohmann::ordered_json &line);

// "RUNNING" for JOB_STATE_RUNNING.
std::string state_name(signalbox::v1::JobState state);
