package preflight

import (
	"context"

	"repld/dblog/redis"
)

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
	if err := k.redisCache(ctx, d); err != nil {
		k.note("%s could not be flushed here: %v", d.what, err)
	}
}

// redisStandby checks what a promotion needs, unless it starts the server first.
func (k *check) redisStandby(ctx context.Context, d server) {
	if len(d.Start) > 0 {
		k.redisPrimary(ctx, d)
		return
	}
	if d.text == "" {
		return
	}
	if err := k.redisCache(ctx, d); err != nil {
		key := d.key + "dsn"
		if d.DSNFile != "" {
			key += "_file"
		}
		k.wrong(key, "without it a promotion stops before services start", "%s: %v", d.what, err)
	}
}
