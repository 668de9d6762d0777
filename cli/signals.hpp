// SIGINT and SIGTERM as a flag that long work asks for; a second one ends the program at once.
#pragma once

#include <atomic>

namespace lcrun::cli {

// Also ignores SIGPIPE and SIGXFSZ: writes report EPIPE and EFBIG instead.
void install_signal_handlers();
// True from the first signal on: what sessions look at between layers.
const std::atomic<bool>* interrupt_flag();
// Has a signal come since the last clear?
bool interrupted();
// Can be read from while interrupted() holds, for poll(): a signal may come just before a call that blocks. -1: no
// handlers are installed, or there was no descriptor left.
int interrupt_fd();
// For interactive chat: the signal ended a reply, not the program.
void clear_interrupt();
// Was it SIGTERM? (which always means the program)
bool terminated();

}  // namespace lcrun::cli
