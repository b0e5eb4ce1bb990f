# The system calls of a worker's own filters, which a shell cannot make; numbers above 400 are the same on every architecture.
use strict; use warnings; use Errno qw(EPERM); use POSIX ();
my %seccomp = (x86_64 => 317, aarch64 => 277);
my $kill_process = pack('L', 0x80000000);
# SECCOMP_GET_ACTION_AVAIL
syscall($seccomp{(POSIX::uname())[4]}, 2, 0, $kill_process) == 0 or die "seccomp: $!";
# LANDLOCK_CREATE_RULESET_VERSION; a kernel without it says so with another error than the unit's filter.
my $version = syscall(444, 0, 0, 1);
$version >= 1 or $! != EPERM or die "landlock_create_ruleset: $!";
# landlock_add_rule, landlock_restrict_self, mount_setattr: refused for what they are given, and not for who asks.
for my $call (445, 446, 442) {
    syscall($call, -1, 0, 0, 0, 0);
    $! != EPERM or die "system call $call: $!";
}
print $version >= 1 ? "system calls: seccomp, mount_setattr, Landlock version $version\n" : "system calls: seccomp, mount_setattr; this kernel has no Landlock\n";
