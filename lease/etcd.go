package lease

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
)

const (
	prefix = "/repld/v1/"
	format = 1
	// maxValue bounds what is read: ours have a few hundred bytes.
	maxValue = 4 << 10
)

// holder is the value of the holder's key.
type holder struct {
	Format  int    `json:"format"`
	Node    string `json:"node"`
	Name    string `json:"name"`
	Session string `json:"session"`
}

// recorded is the value of the epoch's key.
type recorded struct {
	Format int `json:"format"`
	Epoch
}

// etcd is a store. It asks one member at a time, through a client of its own each: a
// renewal is proven by answers of one member.
type etcd struct {
	clients   []*clientv3.Client
	links     []*connecting // one of each client
	holderKey string
	epochKey  string

	mu      sync.Mutex
	current int
}

func openEtcd(endpoints []string, pair string, t *tls.Config, attempt time.Duration) (*etcd, error) {
	if len(endpoints) == 0 {
		return nil, errors.New("found no endpoints of etcd, want at least one")
	}
	e := &etcd{holderKey: prefix + pair + "/holder", epochKey: prefix + pair + "/epoch"}
	for _, endpoint := range endpoints {
		link := &connecting{}
		secured := t
		if !strings.HasPrefix(endpoint, "https://") {
			secured = nil
		}
		c, err := clientv3.New(clientv3.Config{
			Endpoints: []string{endpoint}, TLS: t, Logger: zap.NewNop(), MaxUnaryRetries: 1,
			DialTimeout: attempt,
			// A connection that was cut without a word is given up after this.
			DialKeepAliveTime: attempt, DialKeepAliveTimeout: attempt, PermitWithoutStream: true,
			DialOptions: append(link.options(secured), grpc.WithConnectParams(grpc.ConnectParams{
				Backoff:           backoff.Config{BaseDelay: attempt / 4, Multiplier: 1.5, Jitter: 0.2, MaxDelay: attempt},
				MinConnectTimeout: attempt,
			})),
		})
		if err != nil {
			_ = e.close() // the one that failed is what counts
			return nil, fmt.Errorf("etcd %s: %w", endpoint, err)
		}
		e.clients, e.links = append(e.clients, c), append(e.links, link)
	}
	return e, nil
}

// TLS returns the settings for etcd's endpoints: ca signs the servers, "" = those that the
// system trusts; cert and key are this node's, "" = it shows none.
func TLS(ca, cert, key string) (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := os.ReadFile(ca)
		if err != nil {
			return nil, err
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: found no certificate, want PEM", ca)
		}
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("%s, %s: %w", cert, key, err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func (e *etcd) client() *clientv3.Client {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clients[e.current]
}

// asked takes another member for the next request if this one could not be asked.
func (e *etcd) asked(err *error) {
	var taken *TakenError
	var epoch *EpochError
	if *err == nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.links[e.current].note(nil)
		return
	}
	if errors.Is(*err, errGone) || errors.Is(*err, errUnconfirmed) || errors.As(*err, &taken) || errors.As(*err, &epoch) {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	*err = e.links[e.current].explain(*err)
	e.current = (e.current + 1) % len(e.clients)
}

func (e *etcd) close() error {
	var errs []error
	for _, c := range e.clients {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// seen is what stands in etcd.
type seen struct {
	member, term  uint64
	holder        holder
	made, changed int64 // revisions of the holder's key; 0 = there is none
	lease         int64
	epoch         Epoch
	epochRevision int64 // 0 = none is recorded
	holderRaw     string
}

// look reads both keys, linearizably.
func (e *etcd) look(ctx context.Context, c *clientv3.Client) (seen, error) {
	r, err := c.Txn(ctx).Then(clientv3.OpGet(e.holderKey), clientv3.OpGet(e.epochKey)).Commit()
	if err != nil {
		return seen{}, err
	}
	s := seen{member: r.Header.MemberId, term: r.Header.RaftTerm}
	if kvs := r.Responses[0].GetResponseRange().Kvs; len(kvs) > 0 {
		kv := kvs[0]
		s.made, s.changed, s.lease, s.holderRaw = kv.CreateRevision, kv.ModRevision, kv.Lease, string(kv.Value)
		if err := decode(e.holderKey, kv.Value, &s.holder, &s.holder.Format); err != nil {
			return seen{}, err
		}
	}
	if kvs := r.Responses[1].GetResponseRange().Kvs; len(kvs) > 0 {
		var v recorded
		if err := decode(e.epochKey, kvs[0].Value, &v, &v.Format); err != nil {
			return seen{}, err
		}
		s.epoch, s.epochRevision = v.Epoch, kvs[0].ModRevision
	}
	return s, nil
}

func decode(key string, value []byte, into any, found *int) error {
	if len(value) > maxValue {
		return fmt.Errorf("%s in etcd: found %d bytes, want at most %d", key, len(value), maxValue)
	}
	if err := json.Unmarshal(value, into); err != nil {
		return fmt.Errorf("%s in etcd: %w", key, err)
	}
	if *found != format {
		return fmt.Errorf("%s in etcd: found format %d, want %d", key, *found, format)
	}
	return nil
}

// mine reports whether the holder's key is that of the grant.
func (s seen) mine(g grant) bool { return s.made == g.key && s.lease == g.id }

func (e *etcd) acquire(ctx context.Context, ttl time.Duration, self holder) (_ grant, _ Epoch, err error) {
	defer e.asked(&err)
	c := e.client()
	s, err := e.look(ctx, c)
	switch {
	case err != nil:
		return grant{}, Epoch{}, err
	case s.made != 0 && s.holder.Node != self.Node:
		return grant{}, Epoch{}, &TakenError{Identity{s.holder.Node, s.holder.Name}}
	}
	lease, err := c.Grant(ctx, int64(ttl/time.Second))
	if err != nil {
		return grant{}, Epoch{}, err
	}
	if got := time.Duration(lease.TTL) * time.Second; got < ttl {
		return grant{}, Epoch{}, fmt.Errorf("etcd granted a lease of %v, want %v", got, ttl)
	}
	value, err := json.Marshal(self)
	if err != nil {
		return grant{}, Epoch{}, err
	}
	// The key is as it was seen: absent, or left by an earlier run of this node.
	r, err := c.Txn(ctx).If(clientv3.Compare(clientv3.ModRevision(e.holderKey), "=", s.changed)).
		Then(clientv3.OpPut(e.holderKey, string(value), clientv3.WithLease(lease.ID)), clientv3.OpGet(e.holderKey), clientv3.OpGet(e.epochKey)).Commit()
	if err != nil {
		return grant{}, Epoch{}, err // whether it was done the next attempt will see
	}
	if !r.Succeeded {
		_, _ = c.Revoke(ctx, lease.ID) // else it ends by itself
		return grant{}, Epoch{}, errGone
	}
	g := grant{id: int64(lease.ID), key: r.Responses[1].GetResponseRange().Kvs[0].CreateRevision}
	if kvs := r.Responses[2].GetResponseRange().Kvs; len(kvs) > 0 {
		var v recorded
		if err := decode(e.epochKey, kvs[0].Value, &v, &v.Format); err != nil {
			return grant{}, Epoch{}, err
		}
		return g, v.Epoch, nil
	}
	return g, Epoch{}, nil
}

func (e *etcd) renew(ctx context.Context, g grant) (_ Epoch, err error) {
	defer e.asked(&err)
	c := e.client()
	before, err := e.look(ctx, c)
	if err != nil {
		return Epoch{}, err
	}
	if !before.mine(g) {
		return Epoch{}, errGone
	}
	r, err := c.KeepAliveOnce(ctx, clientv3.LeaseID(g.id))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return Epoch{}, errGone
	}
	if err != nil {
		return Epoch{}, err
	}
	after, err := e.look(ctx, c)
	if err != nil {
		return Epoch{}, err
	}
	if !after.mine(g) {
		return Epoch{}, errGone
	}
	if !confirmed(before, after, r.MemberId, r.RaftTerm) {
		return Epoch{}, errUnconfirmed
	}
	return after.epoch, nil
}

// confirmed reports whether one member gave all three answers in one term.
func confirmed(before, after seen, member, term uint64) bool {
	return before.member == member && after.member == member && before.term == term && after.term == term && term != 0
}

func (e *etcd) record(ctx context.Context, g grant, epoch Epoch) (err error) {
	defer e.asked(&err)
	c := e.client()
	for {
		s, err := e.look(ctx, c)
		switch {
		case err != nil:
			return err
		case !s.mine(g):
			return errGone
		case !epoch.mayFollow(s.epoch):
			return &EpochError{Found: s.epoch, Wanted: epoch}
		case epoch == s.epoch:
			return nil
		}
		value, err := json.Marshal(recorded{format, epoch})
		if err != nil {
			return err
		}
		r, err := c.Txn(ctx).If(
			clientv3.Compare(clientv3.CreateRevision(e.holderKey), "=", g.key),
			clientv3.Compare(clientv3.LeaseValue(e.holderKey), "=", g.id),
			clientv3.Compare(clientv3.ModRevision(e.epochKey), "=", s.epochRevision),
		).Then(clientv3.OpPut(e.epochKey, string(value))).Commit()
		if err != nil || r.Succeeded {
			return err
		}
	}
}

func (e *etcd) bar(ctx context.Context, g grant, self holder) (err error) {
	defer e.asked(&err)
	c := e.client()
	value, err := json.Marshal(self)
	if err != nil {
		return err
	}
	r, err := c.Txn(ctx).If(
		clientv3.Compare(clientv3.CreateRevision(e.holderKey), "=", g.key),
		clientv3.Compare(clientv3.LeaseValue(e.holderKey), "=", g.id),
	).Then(clientv3.OpPut(e.holderKey, string(value))).Commit()
	switch {
	case err != nil:
		return err
	case !r.Succeeded:
		return errGone
	}
	_, _ = c.Revoke(ctx, clientv3.LeaseID(g.id)) // else it ends by itself
	return nil
}

func (e *etcd) revoke(ctx context.Context, g grant) (err error) {
	defer e.asked(&err)
	_, err = e.client().Revoke(ctx, clientv3.LeaseID(g.id))
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

func (e *etcd) who(ctx context.Context) (_ Identity, _ Epoch, err error) {
	defer e.asked(&err)
	s, err := e.look(ctx, e.client())
	return Identity{s.holder.Node, s.holder.Name}, s.epoch, err
}
