#pragma once

/// Makes this process one that other processes of its user can neither trace nor read (PR_SET_DUMPABLE of
/// prctl(2), which has variable arguments and so cannot be called from Swift). Returns 0, or -1 with errno.
int process_forbid_dumps(void);
