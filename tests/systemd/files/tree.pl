# A program with a child that leaves its process group. A fork and no other program: those that the pool allows may start no more.
use strict; use warnings; use POSIX ();
POSIX::setsid() if fork() == 0;
sleep 300;
