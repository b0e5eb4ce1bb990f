# A child that leaves its process group and makes its own entry in /proc unreadable: prctl(PR_SET_DUMPABLE, 0).
use strict; use warnings; use POSIX ();
my $prctl = (POSIX::uname())[4] eq 'aarch64' ? 167 : 157;
if (fork() == 0) {
    POSIX::setsid();
    syscall($prctl, 4, 0, 0, 0, 0) == 0 or die "prctl: $!";
    sleep 300;
    exit;
}
sleep 300;
