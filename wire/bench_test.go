package wire_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"repld/wire"
	"repld/wire/wiretest"
)

// BenchmarkLog sends blocks of 1 MiB over loopback and reads them, as a log does.
// Bytes a second are of payload, until the reader has the last.
func BenchmarkLog(b *testing.B) {
	for _, streams := range []int{1, 4} {
		b.Run(fmt.Sprintf("processes=1/streams=%d", streams), func(b *testing.B) {
			ctx := context.Background()
			link := wiretest.NewLink(b, wire.LinkOptions{}, 1, nil)
			primary, standby := link.Connect(b)
			go drainConn(ctx, standby)
			sendBlocks(ctx, b, primary, streams)
		})
		b.Run(fmt.Sprintf("processes=2/streams=%d", streams), func(b *testing.B) {
			ctx := context.Background()
			sendBlocks(ctx, b, dialChild(ctx, b), streams)
		})
	}
}

func sendBlocks(ctx context.Context, b *testing.B, c *wire.Conn, streams int) {
	block := make([]byte, wire.MaxBlock)
	b.SetBytes(wire.MaxBlock)
	b.ReportAllocs()
	var open []*wire.Stream
	for i := range streams {
		s, err := c.OpenStream(ctx, &wire.LogStream{Group: "tree", Index: uint32(i)})
		if err != nil {
			b.Fatal(err)
		}
		open = append(open, s)
	}
	b.ResetTimer()
	var wg sync.WaitGroup
	for i, s := range open {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := i; n < b.N; n += streams {
				if err := s.Send(&wire.Block{Offset: uint64(n) * wire.MaxBlock, Length: wire.MaxBlock}); err != nil {
					b.Error(err)
					return
				}
				if _, err := s.Write(block); err != nil {
					b.Error(err)
					return
				}
			}
			s.CloseWrite()
			io.Copy(io.Discard, s) // until the reader has closed its side, having read all
		}()
	}
	wg.Wait()
	b.StopTimer()
	n := c.Counters()
	b.ReportMetric(float64(n.Lost)/float64(n.Sent)*100, "%lost")
}

// drainConn reads every stream to its end, and then ends it.
func drainConn(ctx context.Context, c *wire.Conn) {
	for {
		_, s, err := c.AcceptStream(ctx)
		if err != nil {
			return
		}
		go func() {
			buf := make([]byte, wire.MaxBlock)
			for {
				m, err := s.Receive()
				if err != nil {
					s.CloseWrite()
					return
				}
				if _, err := io.ReadFull(s, buf[:m.(*wire.Block).Length]); err != nil {
					return
				}
			}
		}()
	}
}

const childEnv = "REPLD_WIRE_BENCH_PEER"

// dialChild starts this test program again as the reading end.
func dialChild(ctx context.Context, b *testing.B) *wire.Conn {
	id := wiretest.NewIdentity(b)
	cmd := exec.Command(os.Args[0], "-test.run=^TestBenchmarkPeer$")
	cmd.Env = append(os.Environ(), childEnv+"="+id.Fingerprint().String())
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { stdin.Close(); cmd.Wait() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	address, key, _ := strings.Cut(strings.TrimSpace(line), " ")
	peer, err := wire.ParseFingerprint(key)
	if err != nil {
		b.Fatal(err)
	}
	c, err := wire.Dial(ctx, wiretest.Socket(b), address, wire.DialOptions{Identity: id, Peer: peer,
		Hello: wiretest.Hello("primary", wire.RoleProduction)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close(nil) })
	return c
}

// TestBenchmarkPeer is no test but the other process of the benchmark.
func TestBenchmarkPeer(t *testing.T) {
	key := os.Getenv(childEnv)
	if key == "" {
		t.Skip("only a part of BenchmarkLog")
	}
	peer, err := wire.ParseFingerprint(key)
	if err != nil {
		t.Fatal(err)
	}
	id := wiretest.NewIdentity(t)
	l, err := wire.Listen(wiretest.Socket(t), wire.ListenOptions{Identity: id,
		Peer:  func() (wire.Fingerprint, bool) { return peer, true },
		Hello: func() wire.Hello { return wiretest.Hello("standby", wire.RoleStandby) }})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	fmt.Println(l.Addr(), id.Fingerprint())
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		io.Copy(io.Discard, os.Stdin) // until the parent ends
		cancel()
	}()
	c, err := l.Accept(ctx)
	if err != nil {
		return
	}
	defer c.Close(nil)
	drainConn(ctx, c)
}
