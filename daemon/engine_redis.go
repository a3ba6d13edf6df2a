package daemon

import "repld/dblog/redis"

// redisEngine knows servers that are caches only; the configuration lets no other pass.
var redisEngine = engine{cache: func(o databaseOptions) (cacheServer, error) {
	return redis.NewCache(redis.Options{Name: o.group + "/" + o.Name, DSN: o.dsn})
}}
