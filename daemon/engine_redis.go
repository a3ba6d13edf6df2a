package daemon

import (
	"os"

	"repld/config"
	"repld/control"
	"repld/dblog"
	"repld/dblog/redis"
)

// redisEngine has no commands of its own: the server is a unit of systemd's.
var redisEngine = engine{
	primary: redisPrimary, standby: redisStandby, fed: true, cache: redisCache,
	down: redis.Down, settings: redis.Settings,
	isCache: func(c config.Database) bool { return c.Redis.Mode == config.RedisCache },
}

func redisCache(o databaseOptions) (cacheServer, error) {
	return redis.NewCache(redis.Options{Name: o.group + "/" + o.Name, DSN: o.dsn})
}

func redisPrimary(o databaseOptions) (dblog.Primary, error) {
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return nil, err
	}
	s, err := redis.NewSource(redis.SourceOptions{
		Name: o.group + "/" + o.Name, DSN: o.dsn, Spool: o.spool, Dir: o.home, Logger: o.logger,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "database %s: %w", o.Name, err)
	}
	return s, nil
}

func redisStandby(o databaseOptions) (dblog.Standby, error) {
	if err := os.MkdirAll(o.home, 0o700); err != nil {
		return nil, err
	}
	g, err := redis.OpenGate(redis.GateOptions{
		Name: o.Name, Dir: o.dir, Home: o.home, Spool: o.spool, Port: o.Redis.GatePort, ReplicaDSN: o.dsn,
		Kept: o.salvaged, Logger: o.logger,
	})
	if err != nil {
		return nil, control.Errorf(control.ExitUsage, "database %s: %w", o.Name, err)
	}
	return g, nil
}
