# Sourced by deb-test.sh: docs/INSTALL.md.
# shellcheck shell=bash disable=SC2154

same_trees() {
	in_machine slayer replctl barrier --wait applied --timeout 60s >/dev/null || fail "no barrier is applied: $1"
	local diff
	diff=$(rsync -aHAXSn --numeric-ids --checksum --modify-window=-1 --delete -i "$work/slayer/srv/data/" "$work/megadeth/srv/data/")
	[ -z "$diff" ] || fail "the trees differ, $1:"$'\n'"$diff"
	echo "equal: $1"
}

documented docs/INSTALL.md "## 2. The package"
for m in slayer megadeth; do
	[ "$(in_machine $m systemctl is-enabled repld)" = disabled ] && ! in_machine $m systemctl -q is-active repld || fail "$m: the package has started the service"
	in_machine $m systemd-analyze verify repld.service || fail "$m: systemd-analyze verify"
	in_machine $m man -w 8 repld 1 replctl 5 repld.yaml >/dev/null || fail "$m: no manual pages"
	! in_machine $m systemctl start repld 2>/dev/null || fail "$m: it starts without a configuration"
	[ "$(in_machine $m systemctl show -P ExecMainStatus repld)" = 2 ] || fail "$m: without a configuration it ends by another code than 2"
	in_machine $m journalctl -u repld -o cat --no-pager | grep -m 1 'repld.yaml'
	in_machine $m systemctl reset-failed repld
done

documented docs/INSTALL.md "## 4. The configuration"
for m in slayer megadeth; do
	in_machine $m systemctl -q is-active repld || fail "$m: not active"
	modes=$(in_machine $m stat -c '%n %U:%G %a' /etc/repld /etc/repld/repld.yaml /var/lib/repld /run/repld /run/repld/control.sock)
	[ "$modes" = "/etc/repld root:repld 750
/etc/repld/repld.yaml root:repld 640
/var/lib/repld repld:repld 700
/run/repld repld:repld 711
/run/repld/control.sock repld:repld 600" ] || fail "$m: owners and modes are"$'\n'"$modes"
	pid=$(pid_of $m)
	in_machine $m grep -E '^(Uid|CapEff|CapBnd|NoNewPrivs|Seccomp):' "/proc/$pid/status" | tr -s '\t\n' '  '
	echo
	# The 41st field is the policy, 3 is SCHED_BATCH. (proc_pid_stat(5), sched(7))
	policies=$(in_machine $m sh -c "cut -d ' ' -f 41 /proc/$pid/task/*/stat | sort -u")
	[ "$policies" = 3 ] || fail "$m: not all threads are scheduled as a batch, but by the policies" $policies
done
in_machine slayer systemd-analyze security --no-pager repld.service | tail -n 1

say "every kind of object, most of it not for the daemon's user"
in_machine slayer bash -e <<'END'
cd /srv/data
mkdir -p a/b closed shared
for f in a/file a/b/acl secret closed/in capable; do echo $f >$f; done
head -c 3000000 /dev/urandom >a/b/large; truncate -s 20M holes; echo end >>holes
ln a/file a/b/hard; ln -s ../file a/b/link; mkfifo fifo; mknod char c 1 3; mknod block b 7 200; cp /bin/true suid
chown -h 1001:2001 . a/b/link secret closed closed/in suid shared fifo char block
chmod 6755 suid; chmod 3777 shared; chmod 0 secret closed closed/in; setcap cap_net_raw+ep capable
setfattr -n user.one -v 1 a/file; setfattr -n trusted.two -v 2 a/file; setfattr -n security.three -v 3 a/file; setfattr -h -n trusted.link -v l a/b/link
setfacl -m u:1234:rw,g:99:r a/b/acl; setfacl -d -m u:1234:rwx shared
touch -h -d '2001-02-03 04:05:06.789012345' a/b/link
END
documented docs/INSTALL.md "## 5. Pairing"
linked
documented docs/INSTALL.md "## 6. Is it right?"
same_trees "as seeded"
in_machine slayer bash -e <<'END'
cd /srv/data
echo more >>secret; mv closed a/moved; rm a/b/hard; chown 4321:4321 capable; chmod 2755 a/b; ln block a/block; mknod a/new c 5 1
setfattr -x security.three a/file; setfacl -b a/b/acl; printf x | dd of=a/b/large bs=1 seek=1000 conv=notrunc status=none
END
same_trees "as changed"
healthy slayer megadeth

documented docs/INSTALL.md "## Settings while it runs"
logged slayer 'was read again'
pid=$(pid_of slayer)
in_machine slayer sh -c 'cp -p /etc/repld/repld.yaml /root/good && echo "wrong: 1" >>/etc/repld/repld.yaml'
! in_machine slayer repld check || fail "repld check finds nothing wrong with an unknown key"
in_machine slayer systemctl reload repld
logged slayer 'not taken over.*wrong'
in_machine slayer cp -p /root/good /etc/repld/repld.yaml
in_machine slayer systemctl reload repld
[ "$pid" = "$(pid_of slayer)" ] || fail "a reload ended the daemon"

say "killed"
for m in slayer megadeth; do
	pid=$(pid_of $m)
	in_machine $m kill -9 "$pid"
	restarted $m "$pid"
done
linked
same_trees "after SIGKILL on both sides"

say "hanging: the watchdog"
for m in slayer megadeth; do
	in_machine $m mkdir -p /etc/systemd/system/repld.service.d
	printf '[Service]\nWatchdogSec=3s\nTimeoutAbortSec=1s\n' >"$work/$m/etc/systemd/system/repld.service.d/soon.conf"
	in_machine $m systemctl daemon-reload
	in_machine $m systemctl restart repld
	pid=$(pid_of $m)
	in_machine $m kill -STOP "$pid"
	logged $m 'Watchdog timeout'
	restarted $m "$pid"
	in_machine $m rm /etc/systemd/system/repld.service.d/soon.conf
	in_machine $m systemctl daemon-reload
done
linked
same_trees "after SIGSTOP on both sides"

say "drop-ins"
in_machine slayer install -D -m 0644 /usr/share/doc/repld/examples/primary.conf /etc/systemd/system/repld.service.d/primary.conf
in_machine megadeth sh -c 'sed "s|^ReadWritePaths=.*|ReadWritePaths=/srv|" /usr/share/doc/repld/examples/confined.conf >/etc/systemd/system/repld.service.d/confined.conf'
for m in slayer megadeth; do
	in_machine $m systemctl daemon-reload
	in_machine $m systemctl restart repld
done
linked
in_machine slayer sh -c 'cd /srv/data && echo again >>secret && rm -r a/moved && cp -a suid suid2 && mknod a/newer b 7 1'
same_trees "a primary that only reads, and a confined standby"

documented docs/INSTALL.md "## Upgrading"
linked
same_trees "after an upgrade"

say "removed, installed again"
in_machine slayer apt-get -qq remove -y repld >/dev/null
[ -e "$work/slayer/etc/repld/repld.yaml" ] && [ -e "$work/slayer/var/lib/repld/key.pem" ] || fail "removing took the configuration or the state"
in_machine slayer sh -c 'cd /srv/data && echo meanwhile >secret'
in_machine slayer sh -c 'apt-get -qq install -y /root/repld_*.deb >/dev/null && systemctl enable --now repld'
linked
same_trees "after it was away"
for m in slayer megadeth; do
	in_machine $m rm -r /etc/systemd/system/repld.service.d
	in_machine $m sh -c 'systemctl daemon-reload && systemctl restart repld'
done
linked
