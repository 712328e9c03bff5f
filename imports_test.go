package ipuka_test

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ipuka/ipuka"

// layers are the packages from top to bottom. A package imports only from layers
// below its own. A folder stands for itself and all folders in it, unless a longer
// entry names one of those.
var layers = [][]string{
	{"cmd/ipuka"},
	{"proxy", "web"},
	{"identity/oauth", "identity/saml", "identity/github", "identity/gitlab", "identity/oidc", "identity/atlassian", "identity/email", "identity/scim", "rbac"},
	{"identity/codeflow"},
	{"identity"},
	{"audit", "state"},
	{"internal/database/databasetest", "internal/mail", "internal/authcode"},
	{"internal/database", "internal/httpapi", "internal/assertion", "internal/sealed", "internal/outbound"},
	{"internal/errs", "policies"},
}

// forbidden are exceptions: importers with what they must not import although the
// layers would allow it.
var forbidden = map[string][]string{
	"proxy": {"internal/database"},
	"web":   {"internal/database"},
}

// homes says where each library lives: the only folders that may import it.
var homes = map[string][]string{
	"github.com/casbin/casbin":        {"rbac"},
	"github.com/ory/fosite":           {"identity/oauth"},
	"github.com/crewjam/saml":         {"identity/saml"},
	"github.com/russellhaering":       {"identity/saml"},
	"github.com/beevik/etree":         {"identity/saml"},
	"github.com/go-webauthn":          {"identity/email"},
	"github.com/pquerna/otp":          {"identity/email"},
	"github.com/wneessen/go-mail":     {"internal/mail"},
	"github.com/google/go-github":     {"identity/github"},
	"github.com/xanzy/go-gitlab":      {"identity/gitlab"},
	"github.com/coreos/go-oidc":       {"identity/oidc"},
	"gocloud.dev":                     {"state", "cmd/ipuka"},
	"github.com/golang-jwt/jwt":       {"internal/assertion"},
	"gorm.io/driver":                  {"internal/database"},
	"github.com/glebarez":             {"internal/database"},
	"gorm.io/gorm":                    {"internal/database", "internal/mail", "identity", "rbac", "audit", "state"},
	"github.com/goccy/go-yaml":        {"cmd/ipuka"},
	"golang.org/x/crypto/argon2":      {"identity/email"},
	"github.com/klauspost/compress":   {"state"},
	"github.com/rogpeppe/go-internal": {"cmd/ipuka"},
}

var badNames = []string{"util", "utils", "common", "helper", "helpers", "types", "models", "service", "manager"}

type goPackage struct {
	ImportPath   string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// folder returns the entry of layers that path belongs to, with its level.
func folder(path string) (string, int) {
	best, level := "", -1
	for i, layer := range layers {
		for _, entry := range layer {
			if (path == entry || strings.HasPrefix(path, entry+"/")) && len(entry) > len(best) {
				best, level = entry, i
			}
		}
	}
	return best, level
}

func TestImports(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	decoder := json.NewDecoder(strings.NewReader(string(out)))
	for {
		var pkg goPackage
		if err := decoder.Decode(&pkg); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Fatal(err)
		}
		if pkg.ImportPath == module {
			continue
		}
		path := strings.TrimPrefix(pkg.ImportPath, module+"/")
		home, level := folder(path)
		if level < 0 {
			t.Errorf("%s has no place in the layers of imports_test.go", path)
			continue
		}
		if name := path[strings.LastIndex(path, "/")+1:]; slices.Contains(badNames, name) {
			t.Errorf("%s: a package is named after what it is about, not %q", path, name)
		}
		for _, imported := range pkg.Imports {
			checkImport(t, path, home, level, imported)
		}
	}
}

func checkImport(t *testing.T, path, home string, level int, imported string) {
	t.Helper()
	if ours, ok := strings.CutPrefix(imported, module+"/"); ok {
		other, below := folder(ours)
		switch {
		case other == home:
		case below <= level:
			t.Errorf("%s imports %s, which is not in a layer below it", path, ours)
		case ours == "state" || strings.HasPrefix(ours, "state/"):
			if home != "cmd/ipuka" {
				t.Errorf("%s imports %s: only cmd/ipuka may, everybody else speaks HTTP to it", path, ours)
			}
		case home == "state" && other == "audit":
			t.Errorf("%s imports %s: the state service knows none of the gate's domains", path, ours)
		case slices.Contains(forbidden[home], other):
			t.Errorf("%s imports %s, which it must not touch", path, ours)
		}
		return
	}
	library, allowed := "", []string(nil)
	for prefix, folders := range homes {
		if strings.HasPrefix(imported, prefix) && len(prefix) > len(library) {
			library, allowed = prefix, folders
		}
	}
	if library != "" && !slices.ContainsFunc(allowed, func(f string) bool { return path == f || strings.HasPrefix(path, f+"/") }) {
		t.Errorf("%s imports %s, whose home is %s", path, imported, strings.Join(allowed, " and "))
	}
}
