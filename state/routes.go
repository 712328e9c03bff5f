package state

import (
	"context"
	"net/http"
	"path"
	"strings"

	"github.com/ipuka/ipuka/internal/assertion"
	"github.com/ipuka/ipuka/internal/errs"
	"github.com/ipuka/ipuka/internal/httpapi"
)

// kinds are the words for an update in a path. They choose the kind of an update only
// when it is created; afterwards all four mean the same update, and clients do mix
// them.
var kinds = []string{"preview", "update", "refresh", "destroy"}

// routes registers every endpoint.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	handle := func(pattern string, h httpapi.Handler) { mux.Handle(pattern, httpapi.Adapt(s.log, s.asserted(h))) }
	mux.Handle("GET /api/capabilities", httpapi.Adapt(s.log, capabilities))
	handle("/", unknownRoute)

	handle("GET /api/user/stacks", s.listStacks)
	handle("HEAD /api/stacks/{org}/{project}", s.projectExists)
	handle("POST /api/stacks/{org}/{project}", s.createStack)

	const stack = "/api/stacks/{org}/{project}/{stack}"
	handle("GET "+stack, s.readStack)
	handle("DELETE "+stack, s.deleteStack)
	handle("POST "+stack+"/rename", s.renameStack)
	handle("PATCH "+stack+"/tags", s.updateTags)
	handle("GET "+stack+"/config", s.readConfig)
	handle("PUT "+stack+"/config", s.updateConfig)
	handle("DELETE "+stack+"/config", s.readConfig)

	handle("GET "+stack+"/export", s.exportStack)
	handle("GET "+stack+"/export/{version}", s.exportVersion)
	handle("POST "+stack+"/import", s.importStack)

	handle("POST "+stack+"/encrypt", s.encrypt)
	handle("POST "+stack+"/decrypt", s.decrypt)
	handle("POST "+stack+"/batch-encrypt", s.batchEncrypt)
	handle("POST "+stack+"/batch-decrypt", s.batchDecrypt)
	handle("POST "+stack+"/decrypt/log-decryption", s.logDecryption)
	handle("POST "+stack+"/decrypt/log-batch-decryption", s.logDecryption)

	handle("GET "+stack+"/updates", s.listUpdates)
	handle("GET "+stack+"/updates/latest", s.latestUpdate)
	handle("GET "+stack+"/updates/latest/previews", s.listPreviews)
	handle("GET "+stack+"/updates/{version}", s.readVersion)
	handle("GET "+stack+"/previews/{update}", s.readPreview)

	for _, kind := range kinds {
		update := stack + "/" + kind + "/{update}"
		handle("POST "+stack+"/"+kind, s.createUpdate(kind))
		handle("GET "+update, s.updateStatus)
		handle("POST "+update, s.startUpdate)
		handle("POST "+update+"/cancel", s.cancelUpdate)
		handle("GET "+update+"/events", s.listEvents)

		handle("POST "+update+"/renew_lease", s.renewLease)
		handle("PATCH "+update+"/journalentries", s.addEntries)
		handle("PATCH "+update+"/checkpoint", s.checkpoint)
		handle("PATCH "+update+"/checkpointverbatim", s.checkpointVerbatim)
		handle("PATCH "+update+"/checkpointdelta", s.checkpointDelta)
		handle("POST "+update+"/events", s.addEvent)
		handle("POST "+update+"/events/batch", s.addEvents)
		handle("POST "+update+"/complete", s.completeUpdate)
	}
	return mux
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	// The mux would redirect to a cleaned path; the bodies of redirected calls get lost.
	if p := r.URL.Path; p != "/" && path.Clean(p) != strings.TrimSuffix(p, "/") || strings.HasSuffix(p, "/") {
		httpapi.Adapt(s.log, s.asserted(unknownRoute)).ServeHTTP(w, r)
		return
	}
	s.mux.ServeHTTP(w, r)
}

func unknownRoute(http.ResponseWriter, *http.Request) error {
	return errs.Errorf(errs.NotFound, "the state service has no such endpoint")
}

type callerKey struct{}

// asserted lets h see only requests that the gate vouches for.
func (s *Server) asserted(h httpapi.Handler) httpapi.Handler {
	return func(w http.ResponseWriter, r *http.Request) error {
		caller, id, err := s.verifier.Verify(r)
		if err != nil {
			return err
		}
		ctx := context.WithValue(r.Context(), callerKey{}, caller)
		if httpapi.RequestID(ctx) == "" {
			ctx = httpapi.WithRequest(ctx, httpapi.Request{ID: id})
		}
		return h(w, r.WithContext(ctx))
	}
}

// callerOf returns who the request of ctx is made for.
func callerOf(ctx context.Context) assertion.Caller {
	caller, _ := ctx.Value(callerKey{}).(assertion.Caller)
	return caller
}

func capabilities(w http.ResponseWriter, _ *http.Request) error {
	type capability struct {
		Capability    string           `json:"capability"`
		Version       int              `json:"version,omitzero"`
		Configuration map[string]int64 `json:"configuration,omitempty"`
	}
	// No delta uploads: a client that uses them drops pending operations.
	httpapi.WriteJSON(w, http.StatusOK, struct {
		Capabilities []capability `json:"capabilities"`
	}{[]capability{
		{Capability: "batch-encrypt"},
		{Capability: "deployment-schema-version", Version: 1, Configuration: map[string]int64{"version": 4}},
	}})
	return nil
}

func noContent(w http.ResponseWriter) error {
	w.WriteHeader(http.StatusNoContent)
	return nil
}
