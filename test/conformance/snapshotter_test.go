// Package conformance runs containerd's own suite for snapshotters against nymph: for each of its tests a daemon of its
// own, spoken to as containerd does, through the proxy client.
//
// NYMPH names the program. snapshotter.test.ts builds and runs this.
package conformance

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	snapshotsapi "github.com/containerd/containerd/api/services/snapshots/v1"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/snapshots/proxy"
	"github.com/containerd/containerd/v2/core/snapshots/testsuite"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

const patience = 30 * time.Second

func TestSnapshotter(t *testing.T) {
	program := os.Getenv("NYMPH")
	if program == "" {
		t.Fatal("NYMPH is not set")
	}
	// By this name the suite knows that directories of lower layers cannot be renamed.
	testsuite.SnapshotterSuite(t, "overlayfs", func(ctx context.Context, root string) (snapshots.Snapshotter, func() error, error) {
		return start(program, root)
	})
}

func start(program, root string) (snapshots.Snapshotter, func() error, error) {
	run := func(args ...string) *exec.Cmd {
		return exec.Command(program, append([]string{"--root", filepath.Join(root, "r"), "--address", filepath.Join(root, "c.sock")}, args...)...)
	}
	daemon := run("daemon")
	daemon.Stderr = os.Stderr
	if err := daemon.Start(); err != nil {
		return nil, nil, err
	}
	ended := make(chan error, 1)
	go func() { ended <- daemon.Wait() }()
	socket := filepath.Join(root, "snapshotter.sock")
	for begun := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		// The file is there an instant before somebody listens.
		if probe, err := net.Dial("unix", socket); err == nil {
			_ = probe.Close()
			break
		}
		if time.Since(begun) > patience {
			_ = daemon.Process.Kill()
			return nil, nil, fmt.Errorf("nymph does not serve %s", socket)
		}
	}
	connection, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, err
	}
	stop := func() error {
		if err := connection.Close(); err != nil {
			return err
		}
		if output, err := run("daemon", "--stop").CombinedOutput(); err != nil {
			return fmt.Errorf("nymph does not stop: %w: %s", err, output)
		}
		return <-ended
	}
	return proxy.NewSnapshotter(snapshotsapi.NewSnapshotsClient(connection), "nymph"), stop, nil
}
