-- What waits for its time, by lane: with `live_ready` and `live_running` all that is live in a lane is found without
-- walking `live`. Only jobs with a delay are in this index.
CREATE INDEX live_scheduled_lane ON live (lane, number) WHERE state = 'scheduled';
-- The lanes of a queue.
CREATE INDEX lane_queue ON lane (queue);
