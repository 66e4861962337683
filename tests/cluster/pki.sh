# For the scripts beside it, to be sourced: the keys, certificates and
# kubeconfigs of one node, in $node/pki.

# Days; longer than any run.
pki_days=30

# pki_ca: the one CA that signs for everybody.
pki_ca() {
    mkdir -p "$node/pki"
    openssl ecparam -name prime256v1 -genkey -noout -out "$node/pki/ca.key"
    openssl req -x509 -new -key "$node/pki/ca.key" -subj /CN=restpipe-test-cluster -days "$pki_days" \
        -out "$node/pki/ca.crt"
    # What signs the tokens of service accounts.
    openssl ecparam -name prime256v1 -genkey -noout -out "$node/pki/sa.key"
    openssl ec -in "$node/pki/sa.key" -pubout -out "$node/pki/sa.pub" 2>/dev/null
}

# pki_leaf FILE SUBJECT [NAMES]: a certificate for servers and clients.
pki_leaf() {
    local file="$node/pki/$1"
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout "$file.key" \
        -subj "$2" -out "$file.csr" 2>/dev/null
    {
        echo 'keyUsage=digitalSignature'
        echo 'extendedKeyUsage=serverAuth,clientAuth'
        [ -z "${3:-}" ] || echo "subjectAltName=$3"
    } >"$file.ext"
    openssl x509 -req -in "$file.csr" -CA "$node/pki/ca.crt" -CAkey "$node/pki/ca.key" -CAcreateserial \
        -days "$pki_days" -extfile "$file.ext" -out "$file.crt" 2>/dev/null
    rm "$file.csr" "$file.ext"
}

# pki_kubeconfig LEAF FILE: with everything inside, so that it can be copied.
pki_kubeconfig() {
    cat >"$2" <<CONFIG
apiVersion: v1
kind: Config
current-context: ${node##*/}
contexts: [{name: ${node##*/}, context: {cluster: ${node##*/}, user: $1}}]
clusters:
- name: ${node##*/}
  cluster:
    server: $apiserver
    certificate-authority-data: $(base64 -w 0 "$node/pki/ca.crt")
users:
- name: $1
  user:
    client-certificate-data: $(base64 -w 0 "$node/pki/$1.crt")
    client-key-data: $(base64 -w 0 "$node/pki/$1.key")
CONFIG
    chmod 600 "$2"
}
