package state

import (
	"context"
	"net/http"
	"strconv"

	"github.com/ipuka/ipuka/internal/errs"
)

// exportStack answers with the state that the stack has now: while an update runs,
// the one that it started from. What a cancelled update has sent so far is included,
// as nobody waits for its end.
func (s *Server) exportStack(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOrAlias(w, r)
	if err != nil {
		return err
	}
	if st, err = s.settled(ctx, st, false); err != nil {
		return err
	}
	writer, busy, err := s.store.writer(ctx, st.id)
	if err != nil {
		return err
	}
	if busy && writer.status == cancelling {
		return s.exportUnfinished(ctx, w, writer)
	}
	return s.export(ctx, w, st.id, st.deployment)
}

// exportVersion answers with the state right after an update.
func (s *Server) exportVersion(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOrAlias(w, r)
	if err != nil {
		return err
	}
	version, err := versionOf(r)
	if err != nil {
		return err
	}
	if st, err = s.settled(ctx, st, false); err != nil {
		return err
	}
	u, err := s.version(ctx, st, version)
	if err != nil {
		return err
	}
	switch {
	case u.status == cancelling:
		return s.exportUnfinished(ctx, w, u)
	case !u.status.ended():
		return errs.Errorf(errs.NotFound, "update %d of stack %s is still running, its state does not exist yet", version, st.ref)
	}
	return s.export(ctx, w, st.id, u.deployment)
}

func (s *Server) export(ctx context.Context, w http.ResponseWriter, stackID, hash string) error {
	data, err := s.deployments.get(ctx, stackID, hash)
	if err != nil {
		return err
	}
	writeDeployment(w, data)
	return nil
}

func (s *Server) exportUnfinished(ctx context.Context, w http.ResponseWriter, u update) error {
	left, err := s.remains(ctx, u)
	if err != nil {
		return err
	}
	writeDeployment(w, left.deployment)
	return nil
}

func writeDeployment(w http.ResponseWriter, data []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	_, _ = w.Write(data)
}
