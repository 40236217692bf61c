-- What waits for its time, by lane: with `live_ready` and `live_running` all that is live in a lane is found without
-- walking `live`. Only jobs with a delay are in this index. It says "scheduled" in other words than `live_scheduled`, so
-- that a query can choose between the two.
CREATE INDEX live_scheduled_lane ON live (lane, number) WHERE state <> 'ready' AND state <> 'running';
-- The lanes of a queue.
CREATE INDEX lane_queue ON lane (queue);
