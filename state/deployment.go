package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/google/uuid"
	"github.com/klauspost/compress/zstd"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/ipuka/ipuka/internal/errs"
)

// emptyDeployment is the state of a stack that has never had one.
const emptyDeployment = `{"version":3,"deployment":{"manifest":{"time":"0001-01-01T00:00:00Z","magic":"","version":""},"resources":[]}}`

// deployments keeps untyped deployments ({"version":…,"deployment":{…}}) in a bucket,
// byte for byte, compressed. The deployments of a stack's versions are named by their
// SHA-256, so writing one twice is the same as writing it once; "" names the empty
// one. Checkpoints of a running update have names of their own, so that an old one can
// be removed without asking who else uses it.
type deployments struct{ bucket *blob.Bucket }

// maxDeployment bounds what a stored deployment may decompress to: what a request may
// bring, several times over, as a journal adds to it.
const maxDeployment = 1 << 30

var (
	compressor, _   = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedDefault))
	decompressor, _ = zstd.NewReader(nil, zstd.WithDecoderMaxMemory(maxDeployment))
)

func stackPrefix(stackID string) string { return "stacks/" + stackID + "/" }

func deploymentKey(stackID, hash string) string {
	return stackPrefix(stackID) + "deployments/" + hash + ".json.zst"
}

func hashOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

// put stores a deployment of a stack and returns its hash.
func (d deployments) put(ctx context.Context, stackID string, data []byte) (string, error) {
	hash := hashOf(data)
	return hash, d.write(ctx, deploymentKey(stackID, hash), data)
}

// get returns the deployment of a stack that has the given hash.
func (d deployments) get(ctx context.Context, stackID, hash string) ([]byte, error) {
	if hash == "" {
		return []byte(emptyDeployment), nil
	}
	data, err := d.read(ctx, deploymentKey(stackID, hash))
	if err == nil && hashOf(data) != hash {
		err = fmt.Errorf("deployment %s of stack %s is damaged", hash, stackID)
	}
	return data, err
}

// putRunning stores a checkpoint of a running update and returns its key.
func (d deployments) putRunning(ctx context.Context, u update, data []byte) (string, error) {
	key := stackPrefix(u.stackID) + "updates/" + u.id + "/" + uuid.NewString() + ".json.zst"
	return key, d.write(ctx, key, data)
}

// write stores data under key and returns once it would survive a loss of power. An
// object store promises that itself; for files it takes a sync of the file and of the
// folders that lead to it.
func (d deployments) write(ctx context.Context, key string, data []byte) error {
	if err := d.writeSynced(ctx, key, compressor.EncodeAll(data, nil)); err != nil {
		return errs.Wrap(errs.Unavailable, err, "the storage for deployments is not available, nothing was changed, try again")
	}
	return nil
}

func (d deployments) writeSynced(ctx context.Context, key string, packed []byte) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var file *os.File // stays nil where the bucket is not a folder
	w, err := d.bucket.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: "application/zstd",
		BeforeWrite: func(as func(any) bool) error { as(&file); return nil },
	})
	if err != nil {
		return err
	}
	_, err = w.Write(packed)
	if err == nil && file != nil {
		err = file.Sync()
	}
	if err != nil {
		cancel() // makes Close drop what was written
		_ = w.Close()
		return err
	}
	if err := w.Close(); err != nil || file == nil {
		return err
	}
	return syncFolders(filepath.Dir(file.Name()), path.Dir(key))
}

// syncFolders syncs the folder of a file in a bucket and its parents up to the
// bucket's own. A bucket that writes its files elsewhere first is left to itself.
func syncFolders(folder, within string) error {
	if !strings.HasSuffix(filepath.ToSlash(folder), "/"+within) {
		return nil
	}
	for range strings.Count(within, "/") + 2 {
		f, err := os.Open(folder)
		if err != nil {
			return err
		}
		err = f.Sync()
		_ = f.Close()
		if err != nil {
			return err
		}
		folder = filepath.Dir(folder)
	}
	return nil
}

func (d deployments) read(ctx context.Context, key string) ([]byte, error) {
	packed, err := d.bucket.ReadAll(ctx, key)
	if gcerrors.Code(err) == gcerrors.NotFound {
		return nil, fmt.Errorf("the bucket has lost %s", key)
	}
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "the storage for deployments is not available, try again")
	}
	data, err := decompressor.DecodeAll(packed, nil)
	if err != nil {
		return nil, fmt.Errorf("decompressing %s: %w", key, err)
	}
	return data, nil
}

// remove deletes everything whose key starts with prefix.
func (d deployments) remove(ctx context.Context, prefix string) error {
	list := d.bucket.List(&blob.ListOptions{Prefix: prefix})
	for {
		object, err := list.Next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := d.bucket.Delete(ctx, object.Key); err != nil && gcerrors.Code(err) != gcerrors.NotFound {
			return err
		}
	}
}
