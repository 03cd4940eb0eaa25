#!/usr/bin/perl
# SPDX-License-Identifier: GPL-2.0
# Hashes, regular expressions, sorting and a digest chain in Perl. Arguments and log as in check.h.
use strict;
use warnings;
use Digest::SHA qw(sha256_hex);
use Fcntl;
use POSIX ();

my ($log, @words) = @ARGV;
my %option = map { split /=/, $_, 2 } @words;
my $beats = 0;
my $started = time;
open(my $out, '>>', $log) or die "$log: $!";
$out->autoflush(1);
open(my $beat, '>', "$log.beat") or die "$log.beat: $!";
close $beat;
unlink "$log.finish";
pipe(my $mine, my $theirs) or die;
unless ($option{foreground}) {
	my $child = fork // die "fork: $!";
	if ($child) {
		close $theirs;
		POSIX::_exit(defined(readline $mine) ? 0 : 1);
	}
	POSIX::setsid();
}
close $mine;
open(STDIN, '<', '/dev/null') or die;
open(STDOUT, '>>', $log) or die;
open(STDERR, '>>', $log) or die;
my $pid = $$;

sub fail {
	print $out "FAIL perl_hashes @_\n";
	POSIX::_exit(1);
}

sub finished {
	fail("getpid: expected $pid, got " . POSIX::getpid()) if POSIX::getpid() != $pid;
	sysopen(my $file, "$log.beat", O_RDWR | O_CREAT) or fail("$log.beat: $!");
	sysread $file, my $text, 32;
	fail("heartbeat: expected $beats, got $text: another copy runs") if $beats && $text != $beats;
	$beats++;
	sysseek $file, 0, 0;
	syswrite $file, sprintf "%020d\n", $beats;
	close $file;
	return 1 if $option{duration} && (time - $started) * 1000 >= $option{duration};
	return -e "$log.finish";
}

my %table = map { ("key$_" => sha256_hex("value$_")) } 0 .. 20000;
my @list = map { ($_ * 7919) % 20011 } 0 .. 20010;
my $chain = 'start';
my @links = ($chain);
print $out "READY $$\n";
print $theirs "ready\n";
close $theirs;
my $turns = 0;
until ($turns && finished()) {
	for my $i (1 .. 200) {
		my $key = 'key' . (($turns * 200 + $i) % 20001);
		(my $number = $key) =~ s/^key(\d+)$/$1/ or fail("no number in $key");
		fail("$key: got $table{$key}") if $table{$key} ne sha256_hex("value$number");
	}
	my @sorted = sort { $a <=> $b } @list;
	$sorted[$_] == $_ or fail("sorted: expected $_, got $sorted[$_]") for 0 .. 20010;
	$chain = sha256_hex($chain . $turns);
	push @links, $chain;
	$turns++;
	select undef, undef, undef, 0.02;
}
my $again = 'start';
for my $i (0 .. $turns - 1) {
	$again = sha256_hex($again . $i);
	fail("link $i of the chain differs") if $again ne $links[$i + 1];
}
print $out "OK perl_hashes iterations=$turns\n";
POSIX::_exit(0);
