//! What a service uses: a replica that follows an authority, behind one façade.
