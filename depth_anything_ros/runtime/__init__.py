"""The machine: devices and their memory, threads, the allocator, copies, time, and how a program starts."""
