/** The longest delay of a timer, in milliseconds. Node's timers fire at once if they get a longer one. */
export const TIMER_MS_MAX = 2 ** 31 - 1;
