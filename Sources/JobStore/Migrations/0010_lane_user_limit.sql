-- The limits that were set for users, of which there are few: ListUserLimits does not walk all lanes.
CREATE INDEX lane_user_limit ON lane (user_id) WHERE user_limit IS NOT NULL;
