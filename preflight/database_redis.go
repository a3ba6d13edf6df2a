package preflight

import (
	"context"
	"strings"

	"repld/config"
	"repld/dblog/redis"
)

// leastBacklog is how much of its stream a server should remember: minutes of a busy one.
const leastBacklog = 64 << 20

// redisSource checks the server that is replicated.
func (k *check) redisSource(ctx context.Context, d server) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	s, err := redis.NewSource(redis.SourceOptions{Name: d.what, DSN: d.text})
	if err != nil {
		k.wrong(d.key+redisKey(d), "", "%s: %v", d.what, err)
		return
	}
	defer s.Close()
	if s.Check(ctx) == nil {
		if st, err := redis.Look(ctx, d.text); err == nil && st.Backlog < leastBacklog {
			k.note("%s: repl-backlog-size is %d bytes: a link that is down while more is written means a seed", d.what, st.Backlog)
		}
		return
	}
	for _, c := range s.Health() {
		k.wrong(d.key+redisKey(d), "", "%s", strings.TrimPrefix(c.Text, "database "))
	}
}

// redisReplica notes how the server answers that is a replica, or becomes one.
func (k *check) redisReplica(ctx context.Context, d server) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	st, err := redis.Look(ctx, d.text)
	switch {
	case err != nil:
		k.note("%s has no server that answers: %v", d.what, err)
	case st.Unsuitable != "":
		k.wrong(d.key+redisKey(d), "", "%s: %s", d.what, st.Unsuitable)
	case !st.Replica && st.Keys > 0:
		k.note("%s: the server that answers is no replica and has %d keys: replctl database seed wants one without", d.what, st.Keys)
	}
}

func redisKey(d server) string {
	if d.DSNFile != "" {
		return "dsn_file"
	}
	return "dsn"
}

// redisCache checks whether a cache could be flushed. It isn't flushed.
func (k *check) redisCache(ctx context.Context, d server) error {
	c, err := redis.NewCache(redis.Options{Name: d.Name, DSN: d.text})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	return c.Check(ctx)
}

// redisPrimary notes what a promotion of this node would stumble over: production itself
// needs nothing of repld.
func (k *check) redisPrimary(ctx context.Context, d server) {
	if d.text == "" {
		return
	}
	if d.Redis.Mode == config.RedisGate {
		k.redisSource(ctx, d)
		return
	}
	if err := k.redisCache(ctx, d); err != nil {
		k.note("%s could not be flushed here: %v", d.what, err)
	}
}

// redisStandby checks what a promotion needs, unless it starts the server first.
func (k *check) redisStandby(ctx context.Context, d server) {
	switch {
	case d.text == "":
		return
	case d.Redis.Mode == config.RedisGate:
		k.redisReplica(ctx, d)
		return
	case len(d.Start) > 0:
		k.redisPrimary(ctx, d)
		return
	}
	if err := k.redisCache(ctx, d); err != nil {
		k.wrong(d.key+redisKey(d), "without it a promotion stops before services start", "%s: %v", d.what, err)
	}
}
