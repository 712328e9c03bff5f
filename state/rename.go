package state

import (
	"context"
	"errors"
	"net/http"

	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
	"github.com/ipuka/ipuka/state/journal"
)

// renameStack gives a stack another name, in the same or another project. Its state
// is rewritten to the new name as a new version. The former name stays good for
// decrypting and exporting until another stack takes it.
func (s *Server) renameStack(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	st, err := s.stackOf(r)
	if err != nil {
		return err
	}
	to, err := renameTarget(r, st.ref)
	if err != nil {
		return err
	}
	if st, err = s.settled(ctx, st, true); err != nil {
		return err
	}
	hash, err := s.putRenamed(ctx, st, to)
	if err != nil {
		return err
	}
	now, err := s.clock.now(ctx)
	if err != nil {
		return err
	}
	var u update
	err = s.store.db.Tx(ctx, func(ctx context.Context) error {
		current, err := s.lockIdle(ctx, st.id)
		if err != nil {
			return err
		}
		if current.deployment != st.deployment || current.ref != st.ref {
			return errs.Errorf(errs.Conflict, "stack %s has just been changed by another call, try again", st.ref)
		}
		if err := s.store.renameStack(ctx, st.id, st.ref, to); err != nil {
			return err
		}
		if err := s.retagProject(ctx, st.id, to.project); err != nil {
			return err
		}
		u, err = s.record(ctx, &current, "rename", hash, current.resources, now)
		return err
	})
	if err != nil {
		return err
	}
	httpapi.WriteJSON(w, http.StatusOK, updateIDBody{u.id})
	return nil
}

// renameTarget returns the name that the body of r asks for. An absent part stays.
func renameTarget(r *http.Request, from stackRef) (stackRef, error) {
	var body struct {
		NewName    string `json:"newName"`
		NewProject string `json:"newProject"`
	}
	if err := httpapi.ReadJSON(r, httpapi.Small, &body); err != nil {
		return stackRef{}, err
	}
	to := from
	if body.NewName != "" {
		to.name = body.NewName
	}
	if body.NewProject != "" {
		to.project = body.NewProject
	}
	if to == from {
		return stackRef{}, errs.Errorf(errs.Invalid, "there is nothing to rename: the stack is called %s already", from)
	}
	if err := checkName("project", to.project); err != nil {
		return stackRef{}, err
	}
	return to, checkName("stack", to.name)
}

// putRenamed stores the deployment of a stack as it is under another name, and returns
// its hash.
func (s *Server) putRenamed(ctx context.Context, st stack, to stackRef) (string, error) {
	if st.deployment == "" {
		return "", nil
	}
	base, err := s.deployments.get(ctx, st.id, st.deployment)
	if err != nil {
		return "", err
	}
	renamed, err := journal.Rename(base, st.ref.names(), to.names())
	if err != nil {
		return "", err
	}
	// Clients write the organization as it was typed, and former names may have stayed.
	own, err := s.ownSecrets(ctx, stack{id: st.id, ref: to}, renamed)
	if err != nil && !errors.Is(err, errs.Invalid) {
		return "", err
	}
	if err == nil {
		renamed = own
	}
	return s.deployments.put(ctx, st.id, renamed)
}
