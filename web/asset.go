package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"time"
)

//go:embed static
var staticFS embed.FS

// assets are the static files by name.
type assets map[string]asset

type asset struct {
	content []byte
	kind    string // media type
	version string // changes with the content
}

func loadAssets() (assets, error) {
	all := make(assets)
	entries, err := fs.ReadDir(staticFS, "static")
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
	for _, entry := range entries {
		content, err := staticFS.ReadFile("static/" + entry.Name())
		if err != nil {
			return nil, err
		}
		kind := kinds[path.Ext(entry.Name())]
		if kind == "" {
			kind = mime.TypeByExtension(path.Ext(entry.Name()))
		}
		sum := sha256.Sum256(content)
		all[entry.Name()] = asset{content, kind, base64.RawURLEncoding.EncodeToString(sum[:9])}
	}
	return all, nil
}

// url returns the address of a file that may be cached for ever.
func (a assets) url(name string) string { return "/static/" + name + "?v=" + a[name].version }

func (c *Console) serveAsset(w http.ResponseWriter, v *visit) error {
	file, ok := c.assets[v.r.PathValue("file")]
	if !ok {
		return errNoPage
	}
	c.writeAsset(w, v.r, file)
	return nil
}

// serveIcon is for browsers that look for an icon where pages had it long ago.
func (c *Console) serveIcon(w http.ResponseWriter, v *visit) error {
	c.writeAsset(w, v.r, c.assets["ipuka.svg"])
	return nil
}

func (c *Console) writeAsset(w http.ResponseWriter, r *http.Request, file asset) {
	h := w.Header()
	h.Set("Content-Type", file.kind)
	h.Set("ETag", `"`+file.version+`"`)
	h.Set("Cache-Control", "no-cache")
	if r.URL.RawQuery == "v="+file.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(file.content))
}
